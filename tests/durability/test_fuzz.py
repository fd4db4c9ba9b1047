"""Whatever is in a file, its reader reads it or refuses it in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.durability.readers import READERS, Reader, read_damaged

SOME = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PIECES = ["\n", " ", ":", "-", "{", "}", "[", "]", '"', "'", "&a", "*a", "!!", "!!python/object:a", "|", ">", "%", "#"]
PIECES += ["task", "options", "null", "NaN", "1e999", "-1", "0", "99999999999999999999", "<", ">", "&", "\0", "é", ","]
SPLICES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=12)), min_size=1, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WARNED = pytest.mark.filterwarnings("ignore")  # readers of numbers may warn of what they then refuse


@pytest.fixture(params=READERS, ids=lambda reader: reader.name)
def spoiled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Reader, Path, Path]:
    reader: Reader = request.param
    return reader, tmp_path, reader.make(tmp_path)


@WARNED
def test_parts_that_were_replaced(spoiled: tuple[Reader, Path, Path]) -> None:
    reader, folder, path = spoiled
    whole = path.read_bytes()
    assert read_damaged(reader, folder, path, whole) == "read" or reader.name in ("sweep.jsonl", "rows.sums")

    @SOME
    @given(splices=SPLICES)
    def spoil(splices: list[tuple[float, int, bytes]]) -> None:
        content = whole
        for place, length, new in splices:
            at = int(place * len(content))
            content = content[:at] + new + content[at + length :]
        read_damaged(reader, folder, path, content)

    spoil()


@WARNED
def test_anything(spoiled: tuple[Reader, Path, Path]) -> None:
    reader, folder, path = spoiled
    whole = path.read_bytes()
    texts = st.lists(st.sampled_from(PIECES), max_size=20).map("".join).map(str.encode)
    values = JSON.map(json.dumps).map(str.encode)
    lines = st.lists(st.sampled_from([line + b"\n" for line in whole.splitlines()[:20]]), max_size=20).map(b"".join)
    contents = st.binary(max_size=64) | (texts | values | lines if reader.is_text else st.nothing())

    @SOME
    @given(content=contents)
    def spoil(content: bytes) -> None:
        read_damaged(reader, folder, path, content)

    spoil()


@WARNED
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "- " * 40_000, "9" * 5_000, "a: &a [*a]\n"])
def test_what_is_made_to_exhaust_a_parser(spoiled: tuple[Reader, Path, Path], text: str) -> None:
    reader, folder, path = spoiled
    read_damaged(reader, folder, path, text.encode())
