from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from switch_ema.bench.integrity import NOTHING
from switch_ema.bench.results import Row, Store, read_run
from switch_ema.errors import InputError

ASKED = {"task": "t", "epochs": 2}


def row(value: float = 0.5) -> Row:
    return Row("t", "d", "m", "ema", 0.1, 0, 1, 10, "test", "accuracy", value, True, 1.5)


def store_of(folder: Path) -> Store:
    folder.mkdir(exist_ok=True)
    store = Store(folder)
    store.begin({"asked": ASKED, "trajectories": [{"name": "a"}, {"name": "b"}]})
    store.rewind(store.settled())
    return store


def test_a_row_is_a_line_of_json_with_the_documented_fields() -> None:
    fields = json.loads(row().line())
    expected = "task data model method lr seed epoch step split metric value higher_is_better seconds"
    assert list(fields) == expected.split()
    assert row().line().endswith("}\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_written_as_null(value: float) -> None:
    assert json.loads(row(value).line(), parse_constant=pytest.fail)["value"] is None


def test_rows_beyond_the_settled_part_are_dropped(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run")
    settled = store.append([row(), row()])
    store.finish("a", settled)
    store.append([row()])
    with store.rows_path.open("a") as file:
        file.write('{"torn')
    assert store.done() == ["a"]
    store.rewind(store.settled())
    assert len(read_run(store.folder)[1]) == 2


def test_rows_shorter_than_settled_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run")
    store.finish("a", store.append([row()]))
    store.rows_path.write_text("")
    with pytest.raises(InputError, match=r"rows.jsonl is not as it was written: a part is missing"):
        store.rewind(store.settled())


def test_a_folder_is_finished_when_every_trajectory_is(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run")
    assert not store.check(ASKED)
    store.finish("a", NOTHING)
    assert not store.check(ASKED)
    store.finish("b", NOTHING)
    assert store.check(ASKED)


def test_the_folder_of_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run")
    with pytest.raises(InputError, match=r"another comparison \(epochs: 2 there, 3 asked\); choose another --out"):
        store.check({**ASKED, "epochs": 3})


def test_two_processes_cannot_hold_one_folder(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "run"), Store(tmp_path / "run")
    with first.locked(), pytest.raises(InputError, match="in use by another comparison"), second.locked():
        pass
    with Store(tmp_path / "run").locked():
        pass


RUNS = ["", "{", "[]", '{"format": 99}', '{"format": 1}', json.dumps({"format": 1, "asked": ASKED})]


@pytest.mark.parametrize("content", [*RUNS, '{"format": 1, "trajectories": []}'])
def test_a_damaged_run_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"choose another --out"):
        Store(tmp_path).check(ASKED)


PROGRESS = ['"done": [], "rows_bytes": {}', '"done": [], "rows": [1]', '"done": {}, "rows_bytes": 1', '"rows_bytes": 1']


@pytest.mark.parametrize("content", [*PROGRESS, '"done": [], "rows_bytes": -1'])
def test_damaged_progress_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "progress.json").write_text(f'{{"format": 1, {content}}}')
    with pytest.raises(InputError, match=r"progress.json is damaged; delete the folder or choose another --out"):
        Store(tmp_path).settled()


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path / "run")
    store.append([row()])
    store.sums_path.unlink()  # nothing vouches for the rows
    with store.rows_path.open("a") as file:
        file.write('{"value": 1}\n')
    with pytest.raises(InputError, match=r"rows.jsonl, line 2, is not a measurement"):
        read_run(store.folder)
