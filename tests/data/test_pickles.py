"""Pickles are read without calling what they name; only numbers come out."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from switch_ema.data.catalog import locate
from switch_ema.data.images import load
from switch_ema.data.labelfile import read
from switch_ema.data.pickles import loads
from switch_ema.errors import InputError
from tests.data import make

ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.array([1.5, -2], ">f4"),
    np.array([True, False]),
    np.array([], np.int16),
    np.array(7),
]


@pytest.mark.parametrize("protocol", range(6))
def test_numbers_come_back(protocol: int) -> None:
    value = {"a": ARRAYS, b"b": [1, 2.5, None, True, "ä", b"\xff"], ("t", 1): OrderedDict(x=np.int64(3))}
    got = loads(pickle.dumps(value, protocol), "here")
    for ours, theirs in zip(got["a"], ARRAYS, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    assert (got[b"b"], got["t", 1]) == (value[b"b"], {"x": 3})


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def programs(victim: Path) -> dict[str, bytes]:
    """Pickles that would create a file, or reach for something else than numbers."""
    name = str(victim).encode()
    return {
        "os.mkdir": pickle.dumps(Calls(os.mkdir, str(victim))),
        "open": pickle.dumps(Calls(open, str(victim), "w")),
        "eval": pickle.dumps({"data": Calls(eval, f"open({str(victim)!r}, 'w')")}),
        "inside an array": b"cnumpy.core.multiarray\n_reconstruct\n(cos\nmkdir\n(K\x00tU\x01btR.",
        "old opcode INST": b"(S'" + name + b"'\nios\nmkdir\n.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0eloadtxt.__call\x93.",
        "attribute of an allowed module": b"cnumpy\nfromfile\n(S'" + name + b"'\ntR.",
        "numpy.core submodule": b"cnumpy.core.multiarray\nfromfile\n.",
        "extension code": b"\x82\x01.",
        "builtins getattr": pickle.dumps(Calls(getattr, "x", "upper")),
    }


@pytest.mark.parametrize("case", programs(Path("victim")))
def test_programs_are_refused_and_not_run(case: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    content = programs(victim)[case]
    with pytest.raises(InputError) as caught:
        loads(content, "set/batch")
    assert str(caught.value).startswith("set/batch: ")
    assert "\n" not in str(caught.value)
    assert not victim.exists()


def test_the_program_would_have_run(tmp_path: Path) -> None:
    pickle.loads(programs(tmp_path / "victim")["os.mkdir"])
    assert (tmp_path / "victim").exists()


def test_a_program_in_a_data_set_or_label_file_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    evil = pickle.dumps({"data": Calls(os.mkdir, str(victim)), "labels": []})
    for write, name in (
        (make.cifar10_python, "cifar-10-batches-py/data_batch_3"),
        (make.cifar10_python, "cifar-10-batches-py/batches.meta"),
        (make.cifar100_python, "cifar-100-python/test"),
    ):
        folder = write(tmp_path / Path(name).name)
        (folder / name).write_bytes(evil)
        with pytest.raises(InputError, match=rf"{name}: refused, it would call posix.mkdir"):
            load(locate(str(folder)))
    with zipfile.ZipFile(tmp_path / "human.pt", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
    with pytest.raises(InputError, match=r"human.pt: refused, it would call posix.mkdir"):
        read(str(tmp_path / "human.pt"))
    (tmp_path / "old.pt").write_bytes(evil)
    with pytest.raises(InputError, match="refused"):
        read(str(tmp_path / "old.pt"))
    assert not victim.exists()


@pytest.mark.parametrize(
    "value",
    [np.array([{}], object), np.array(["text"]), np.array([b"raw"]), np.zeros(1, [("a", "i4")]), np.array(1j)],
    ids=["objects", "texts", "bytes", "records", "complex"],
)
def test_arrays_of_other_things_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="here: damaged"):
        loads(pickle.dumps(value, 2), "here")


def test_what_the_file_gets_cannot_be_changed() -> None:
    change = b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__)s\x86b."
    with pytest.raises(InputError, match="a name cannot be changed"):
        loads(change, "here")
    assert loads(pickle.dumps(b"x", 2), "here") == b"x"


def test_tensors_are_named_as_such() -> None:
    import torch

    stream = io.BytesIO()
    torch.save({"labels": torch.arange(3)}, stream)
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive, pytest.raises(InputError, match="refused"):
        loads(archive.read("archive/data.pkl"), "here")


def test_damage_is_always_one_line() -> None:
    whole = pickle.dumps({"data": np.arange(50), "labels": list(range(50)), "t": ("a", b"b")}, 2)
    draw = random.Random(0)
    for _ in range(2000):
        spoilt = bytearray(whole[: draw.randrange(len(whole))] if draw.random() < 0.3 else whole)
        for _ in range(draw.randrange(1, 4)):
            if spoilt:
                spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
        message = refusal(bytes(spoilt))
        assert message.startswith("here: ") or not message
        assert "\n" not in message


def refusal(content: bytes) -> str:
    try:
        loads(content, "here")
    except InputError as error:
        return str(error)
    return ""


def test_a_size_that_is_no_content_allocates_nothing() -> None:
    size = b"\x8a\x05\xff\xff\xff\xff\x7f"  # where the pixels should be
    kind = b"cnumpy\ndtype\nU\x02u1\x85R"
    bomb = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85" + kind + b"\x89" + size + b"tb."
    with pytest.raises(InputError, match="not an array of numbers"):
        loads(bomb, "here")


BOMBS = {
    "object 1476555105": b"X\x01\x00\x00\x00ar\xa1\x67\x02\x58",
    "object 1476555105, in digits": b"Va\np1476555105\n",
    "2 GB of bytes": b"\x96\x00\x00\x00\x80" + bytes(4),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_number_that_counts_nothing_allocates_nothing(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(b"\x80\x05" + bomb + b".")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "from switch_ema.data.pickles import loads; loads(open('bomb', 'rb').read(), 'here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "InputError: here: damaged (" in done.stderr
    assert "Memory" not in done.stderr
