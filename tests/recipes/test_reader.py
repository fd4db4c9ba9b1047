"""Recipes are read exactly, and what is wrong in one is said with its line."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.settings import Settings
from switch_ema.errors import InputError
from switch_ema.recipes.reader import is_recipe, read_recipe, recipe_names, recipe_text
from tests.conftest import Sema

RECIPE = """\
# A comment.
about: one line
evidence: {training: V-code, ema: own}
task: classification
options:
  label_noise: 0.4
methods:
  - baseline
  - ema:decay=ramp 0.9 over 2 epochs,update_every=2
epochs: 7
lr: [0.02, 0.05]
milestones: 3
nesterov: false
clip_norm:
"""

KNOWN = Settings.model_fields

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")
)

BAD: dict[str, tuple[str, list[str]]] = {
    "an unknown key": ("task: classification\nepoch: 5\n", ["line 2: 'epoch' is no setting", "did you mean 'epochs'"]),
    "an unknown key of an option": (
        "task: classification\nlabel_noise: 0.4\n",
        ["line 2: 'label_noise' is no setting"],
    ),
    "an unknown option": (
        "task: classification\noptions:\n  label_nois: 0.4\n",
        ["line 3: label_nois is no option", "did you mean 'label_noise'"],
    ),
    "a key twice": (
        "task: classification\nepochs: 5\n\nepochs: 6\n",
        ["line 4: 'epochs' is given twice, first in line 2"],
    ),
    "an option twice": (
        "task: classification\noptions:\n  train_size: 5\n  train_size: 5\n",
        ["line 4: 'train_size' is given twice, first in line 3"],
    ),
    "a setting out of range": (
        "task: classification\nepochs: 0\n",
        ["line 2: epochs '0': ", "greater than or equal to 1"],
    ),
    "a setting of another kind": ("task: classification\nseeds: many\n", ["line 2: seeds 'many': ", "integer"]),
    "a setting without a value": ("task: classification\nseeds:\n", ["line 2: seeds None: "]),
    "a list for a number": ("task: classification\nseeds: [1, 2]\n", ["line 2: seeds ['1', '2']: "]),
    "a bad list": ("task: classification\n# x\nlr: [a, b]\n", ["line 3: lr ['a', 'b'] is not a list of numbers"]),
    "settings that contradict each other": (
        "task: classification\nepochs: 2\nwarmup_epochs: 3\n",
        ["line 3: warmup_epochs 3 is longer than the 2 epochs"],
    ),
    "an option out of range": (
        "task: classification\noptions:\n  label_noise: 40\n",
        ["line 3: label_noise 40: write a share from 0 to 1"],
    ),
    "an option of another kind": (
        "task: regression\noptions: {angular: maybe}\n",
        ["line 2: angular maybe: write true or false"],
    ),
    "a list for an option": ("task: classification\noptions: {train_size: [5]}\n", ["line 2: train_size ['5']: write"]),
    "an option that the method has no use for": (
        "task: selfsup\noptions:\n  method: simclr\n  queue_size: 64\n",
        ["line 4: queue_size is of no use to simclr"],
    ),
    "options as a list": (
        "task: classification\noptions:\n  - label_noise\n",
        ["line 2: options of the task", "name: value"],
    ),
    "options without a value": ("task: classification\noptions:\nepochs: 3\n", ["line 2: options of the task"]),
    "an unknown task": ("task: clasification\n", ["unknown task 'clasification'; did you mean 'classification'"]),
    "no task": ("epochs: 3\n", ["no task; write e.g. task: classification"]),
    "an empty task": ("task:\n", ["line 1: task is one word"]),
    "two tasks": ("task: [classification, regression]\n", ["line 1: task is one word"]),
    "two data sets": (
        "task: classification\ndata: [digits, mnist]\n",
        ["line 2: data is one word; write e.g. data: digits"],
    ),
    "a model with settings": ("task: classification\nmodel: {name: mlp}\n", ["line 2: model is one word"]),
    "an unknown model": ("task: classification\nmodel: mlpp\n", ["unknown model 'mlpp'; did you mean 'mlp'"]),
    "an unknown label": (
        "task: classification\nevidence: {ema: V-cod}\n",
        ["line 2: unknown evidence 'V-cod'; did you mean 'V-code'"],
    ),
    "a label from memory": ("task: classification\nevidence: {ema: MEM}\n", ["line 2: unknown evidence 'MEM'"]),
    "lists in lists": (
        "task: classification\nlr: [[0.1], 0.2]\n",
        ["line 2: write a number, a word or a list of them"],
    ),
    "mappings in mappings": ("task: classification\noptions: {a: {b: {c: d}}}\n", ["line 2: write a number"]),
    "a list as a key": ("task: classification\n? [a, b]\n: c\n", ["line 2: write a number, a word"]),
    "an alias to itself": ("task: classification\nlr: &me [*me]\n", ["line 2: write a number, a word"]),
    "a merge of mappings": ("task: classification\n<<: {epochs: 3}\n", ["line 2: '<<' is no setting"]),
    "a list": ("- task: classification\n", ["write settings as `name: value`"]),
    "a word": ("classification\n", ["write settings as `name: value`"]),
    "nothing": ("", ["write settings as `name: value`"]),
    "only comments": ("# nothing\n\n", ["write settings as `name: value`"]),
    "two documents": ("task: classification\n---\ntask: regression\n", ["line 2: but found another document"]),
    "a tab": ("task: classification\noptions:\n\tlabel_noise: 0.4\n", ["line 3: found character '\\t'"]),
    "an open bracket": ("task: classification\nlr: [0.1, 0.2\nepochs: 3\n", ["line 3: "]),
    "an open quote": ("task: classification\nmodel: 'mlp\nepochs: 3\n", ["found unexpected end of stream"]),
    "a control character": ("task: classification\x07\n", ["not YAML", "special characters are not allowed"]),
    "an unknown alias": ("task: *that\n", ["line 1: found undefined alias 'that'"]),
    "a tag": ("task: classification\nepochs: !mine 3\n", ["line 2: leave out the tag !mine"]),
    "an object for a value": (
        'task: classification\nmodel: !!python/object/apply:pathlib.Path.touch ["{touched}"]\n',
        ["line 2: leave out the tag !!python/object/apply:pathlib.Path.touch"],
    ),
    "an object for a key": (
        "task: classification\n!!python/name:os.system x: 3\n",
        ["line 2: leave out the tag !!python/"],
    ),
    "an object for everything": (
        "!!python/object:os.system {task: classification}\n",
        ["line 1: leave out the tag !!python/"],
    ),
    "an object for options": (
        "task: classification\noptions: !!python/dict {}\n",
        ["line 2: leave out the tag !!python/dict"],
    ),
    "a billion laughs": (LAUGHS, ["line 1: 'a' is no setting"]),
    "a billion laughs in a setting": (
        "task: classification\noptions:\n  " + LAUGHS.replace("\n", "\n  ").rstrip(),
        ["line 3: write a number, a word"],
    ),
    "a thousand brackets": ("task: " + "[" * 600 + "]" * 600, ["nested too deeply"]),
    "a large file": ("task: classification\n" + "# filled up\n" * 10_000, ["larger than 100,000 bytes"]),
}


def write(folder: Path, text: str) -> str:
    file = folder / "my.yaml"
    file.write_text(text.replace("{touched}", str(folder / "touched")), encoding="utf-8")
    return str(file)


def test_a_recipe_is_read_as_it_is_written(tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, RECIPE), KNOWN)
    assert recipe.about == "one line"
    assert recipe.options == {"label_noise": "0.4"}
    assert recipe.lines["label_noise"] == 6
    assert recipe.lines["epochs"] == 10
    assert recipe.settings == {
        "task": "classification",
        "methods": ["baseline", "ema:decay=ramp 0.9 over 2 epochs,update_every=2"],
        "epochs": "7",
        "lr": ["0.02", "0.05"],
        "milestones": "3",
        "nesterov": "false",
        "clip_norm": None,
    }


def test_settings_come_from_the_recipe_then_from_the_task(tmp_path: Path) -> None:
    settings = request(write(tmp_path, RECIPE), {}, {})
    assert (settings.epochs, settings.lr, settings.milestones) == (7, (0.02, 0.05), (3,))
    assert (settings.nesterov, settings.clip_norm) == (False, None)
    assert settings.task_options == {"label_noise": 0.4}
    assert [method.label for method in settings.parsed_methods()] == [
        "baseline",
        "ema:decay=ramp 0.9 over 2 epochs,update_every=2",
    ]
    assert (settings.data, settings.model, settings.batch_size) == ("digits", "small-resnet", 64)


def test_what_is_given_goes_before_the_recipe(tmp_path: Path) -> None:
    file = write(tmp_path, RECIPE)
    given = request(file, {"epochs": "9", "lr": "0.3", "methods": "ema", "model": "mlp"}, {"label_noise": "0.1"})
    assert (given.epochs, given.lr, given.methods, given.model) == (9, (0.3,), "ema", "mlp")
    assert given.task_options == {"label_noise": 0.1}
    assert given.nesterov is False
    assert request(file, {"epochs": None}, {"train_size": "99"}).task_options == {"label_noise": 0.4, "train_size": 99}


def test_a_wrong_value_that_is_given_is_not_blamed_on_the_recipe(tmp_path: Path) -> None:
    file = write(tmp_path, RECIPE)
    for values, options in (({"epochs": "0"}, {}), ({}, {"label_noise": "40"})):
        with pytest.raises(InputError) as caught:
            request(file, values, options)
        assert "line" not in str(caught.value)
        assert "my.yaml" not in str(caught.value)


@pytest.mark.parametrize("case", BAD)
def test_wrong_recipes_are_refused_at_once(case: str, tmp_path: Path) -> None:
    text, words = BAD[case]
    file = write(tmp_path, text)
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        request(file, {}, {})
    assert time.process_time() - start < 3
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((file, "unknown "))
    assert [word for word in words if word not in message] == [], message
    assert not (tmp_path / "touched").exists()


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yml").write_bytes("task: classification\nabout: f\u00fcr".encode("latin-1"))
    cases = {
        "missing.yaml": "cannot be read (No such file or directory); `sema recipe NAME` prints one",
        "folder.yaml": "cannot be read (Is a directory)",
        "latin.yml": "not UTF-8 text; save it as such",
    }
    for name, words in cases.items():
        with pytest.raises(InputError) as caught:
            request(str(tmp_path / name), {}, {})
        assert words in str(caught.value)


def test_texts_in_other_forms_are_the_same_recipe(tmp_path: Path) -> None:
    plain = request(write(tmp_path, RECIPE), {}, {})
    for text in (RECIPE.replace("\n", "\r\n"), "\ufeff" + RECIPE):
        (tmp_path / "other.yml").write_bytes(text.encode())
        assert request(str(tmp_path / "other.yml"), {}, {}) == plain


def test_names_and_files_are_told_apart(tmp_path: Path) -> None:
    assert is_recipe("cpu-classification")
    for recipe in ("any.yaml", "any.yml"):
        assert is_recipe(recipe)
    for other in ("classification", "task.py:Task"):
        assert not is_recipe(other)
    assert "cpu-classification" in recipe_names()
    with pytest.raises(InputError, match="unknown recipe 'cpu-clasification'; did you mean 'cpu-classification'"):
        recipe_text("cpu-clasification")


def test_the_command_names_file_and_line(sema: Sema, tmp_path: Path) -> None:
    file = write(tmp_path, "task: classification\nepochs: none\n")
    answer = sema("compare", file)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"sema: {file}, line 2: epochs 'none'")
    assert answer.err.count("\n") == 1
