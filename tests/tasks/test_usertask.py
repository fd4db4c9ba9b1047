"""A task of the user's own: described without running its file, checked when it is made."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from switch_ema.bench.task import Task
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import check, create
from switch_ema.tasks.usertask import _CONTRACT, OWN, user_entry
from tests.conftest import Sema

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "my_task.py")
SPIRALS = f"{EXAMPLE}:Spirals"
BODY = """
class Mine:
    '''What it is.

    More.
    '''
    def __init__(self, *, seed, {arguments}):
        pass
"""


def write(folder: Path, text: str, name: str = "task.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_example_is_described_and_made() -> None:
    entry = user_entry(SPIRALS)
    assert entry.summary == "Name the spiral that a point lies on."
    assert list(entry.options) == ["points", "noise", "width"]
    assert (entry.default_data, entry.default_model) == (OWN, OWN)
    assert check(SPIRALS, options={"points": "100", "noise": "0.5"}) == {"points": 100, "noise": 0.5}
    task = create(SPIRALS, seed=1, options={"points": "100"})
    assert isinstance(task, Task)
    assert task.num_train == 100


def test_the_whole_contract_is_checked() -> None:
    members = {name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")}
    assert members == set(_CONTRACT)
    assert inspect.isclass(Task)


@pytest.mark.parametrize(
    ("arguments", "given", "value"),
    [
        ("x: int = 3", "4", 4),
        ("x: float | None = None", "0.5", 0.5),
        ("x: 'int | float' = 1", "2", "2"),
        ("x: bool = False", "true", True),
        ("x=True", "false", False),
        ("x: str = 'a'", "b", "b"),
        ("x", "b", "b"),
    ],
)
def test_annotations_decide_how_texts_are_read(tmp_path: Path, arguments: str, given: str, value: object) -> None:
    path = write(tmp_path, BODY.format(arguments=arguments))
    assert check(f"{path}:Mine", options={"x": given}) == {"x": value}


def test_data_and_model_are_taken_where_the_class_takes_them(tmp_path: Path) -> None:
    path = write(tmp_path, BODY.format(arguments="data: str = 'here', model: str = 'net', x: int = 1"))
    entry = user_entry(f"{path}:Mine")
    assert (entry.default_data, entry.default_model, list(entry.options)) == ("here", "net", ["x"])
    assert check(f"{path}:Mine", "there", "other") == {}


def test_describing_does_not_run_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "raise SystemExit(7)\n" + BODY.format(arguments="x=1"))
    assert user_entry(f"{path}:Mine").summary == "What it is."


BAD = {
    "no class named": (BODY.format(arguments="x=1"), "", "name the class as well, such as"),
    "another class": (BODY.format(arguments="x=1"), ":Mien", "unknown class in {path} 'Mien'; did you mean 'Mine'?"),
    "no seed": ("class Mine:\n    def __init__(self):\n        pass\n", ":Mine", "takes no argument 'seed'"),
    "not Python": ("class Mine:\n    def\n", ":Mine", "{path}, line 2: "),
    "no text": ("", ":Mine", "unknown class"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(tmp_path: Path, case: str) -> None:
    text, name, words = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        user_entry(f"{path}{name}")
    assert words.format(path=path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        user_entry(f"{tmp_path / 'task.py'}:Mine")


def test_data_for_a_task_that_takes_none_are_refused() -> None:
    with pytest.raises(InputError, match=r"data digits: the constructor of .*Spirals takes no argument 'data'"):
        check(SPIRALS, data="digits")


def test_a_task_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, BODY.format(arguments="x=1"), "lacking.py")
    with pytest.raises(InputError, match=r"has no name, data, .*; inherit from switch_ema.bench.task.Task"):
        create(f"{path}:Mine", seed=0)


def test_two_files_of_one_name_are_two_tasks(tmp_path: Path) -> None:
    text = Path(EXAMPLE).read_text(encoding="utf-8")
    for folder, name in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        path = write(tmp_path / folder, text.replace('name = "spirals"', f'name = "{name}"'), "same.py")
        assert create(f"{path}:Spirals", seed=0).name == name


def test_the_example_is_compared(sema: Sema, tmp_path: Path) -> None:
    command = (
        "compare",
        SPIRALS,
        "--epochs",
        2,
        "--seeds",
        1,
        "--points",
        96,
        "--methods",
        "ema,sam,sam+sema:decay=0.5",
    )
    answer = sema(*command, "--out", tmp_path / "x")
    assert answer.code == 0, answer.err
    assert "sam+sema:decay=0.5" in answer.out
    assert "nothing to do" in sema(*command, "--out", tmp_path / "x").err
    other = sema(*command, "--width", 8, "--out", tmp_path / "x")
    assert "holds another comparison (width: None there, 8 asked)" in other.err


def test_a_changed_file_is_another_comparison(sema: Sema, tmp_path: Path) -> None:
    path = write(tmp_path, Path(EXAMPLE).read_text(encoding="utf-8"), "changing.py")
    command = ("compare", f"{path}:Spirals", "--epochs", 1, "--seeds", 1, "--points", 96, "--out", tmp_path / "x")
    assert sema(*command, "--methods", "baseline").code == 0
    write(tmp_path, Path(EXAMPLE).read_text(encoding="utf-8") + "\n# changed\n", "changing.py")
    assert "holds another comparison (task-file" in sema(*command, "--methods", "baseline").err
