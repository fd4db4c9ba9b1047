"""A task or a recipe, with values that go before both, becomes settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from switch_ema.bench.request import request
from switch_ema.errors import FieldError, InputError

RECIPE = """\
about: A small one.
task: classification
data: digits
model: mlp
options:
  label_noise: 0.4
  mixup: 0.2
epochs: 5
lr: [0.1, 0.2]
weight_decay: 1e-3
methods: [baseline, "ema:decay=0.9,update_every=2", sema]
"""


def write(folder: Path, text: str = RECIPE) -> str:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_task_alone_has_its_defaults() -> None:
    settings = request("classification", {"epochs": None, "seeds": "2"}, {})
    assert (settings.task, settings.data, settings.model) == ("classification", "digits", "small-resnet")
    assert (settings.epochs, settings.seeds, settings.optimizer, settings.task_options) == (30, 2, "sgd", {})


def test_a_task_may_suggest_how_to_train() -> None:
    suggested = request("regression", {}, {})
    assert (suggested.optimizer, suggested.weight_decay) == ("adamw", 0.01)
    other = request("regression", {"optimizer": "sgd"}, {})
    assert (other.optimizer, other.lr, other.weight_decay) == ("sgd", (0.05,), 5e-4)
    assert request("regression", {"optimizer": "sgd", "lr": "0.3"}, {}).lr == (0.3,)


def test_a_recipe_is_read(tmp_path: Path) -> None:
    settings = request(write(tmp_path), {}, {})
    assert (settings.model, settings.epochs, settings.lr, settings.weight_decay) == ("mlp", 5, (0.1, 0.2), 1e-3)
    assert settings.task_options == {"label_noise": 0.4, "mixup": 0.2}
    assert [method.label for method in settings.parsed_methods()] == [
        "baseline",
        "ema:decay=0.9,update_every=2",
        "sema",
    ]


def test_what_is_given_goes_before_the_recipe(tmp_path: Path) -> None:
    settings = request(write(tmp_path), {"epochs": "7", "lr": "0.3", "model": None}, {"label_noise": "0.1"})
    assert (settings.epochs, settings.lr, settings.model) == (7, (0.3,), "mlp")
    assert settings.task_options == {"label_noise": 0.1, "mixup": 0.2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs: 5", "epochs: five"), "line 8: epochs 'five': input should be a valid integer"),
        (("epochs: 5", "epochs: 0"), "line 8: epochs '0': input should be greater"),
        (("label_noise: 0.4", "label_noise: 4"), "line 6: label_noise 4: write a share from 0 to 1"),
        (("mixup: 0.2", "mixpu: 0.2"), "line 7: mixpu is no option here; did you mean 'mixup'"),
        (("lr: [0.1, 0.2]", "lr: fast"), "line 9: lr 'fast' is not a list of numbers"),
        (("epochs: 5", "epoch: 5"), "line 8: 'epoch' is no setting; did you mean 'epochs'"),
        (("task: classification", "task: classify"), "unknown task 'classify'"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = write(tmp_path, RECIPE.replace(*change))
    with pytest.raises(InputError) as caught:
        request(path, {}, {})
    assert words in str(caught.value)
    assert str(caught.value).startswith(path) or "unknown task" in words
    assert "\n" not in str(caught.value)


def test_a_value_from_the_command_line_is_not_blamed_on_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"^epochs '0'"):
        request(write(tmp_path), {"epochs": "0"}, {})
    with pytest.raises(FieldError, match=r"^label_noise 3: "):
        request(write(tmp_path), {}, {"label_noise": "3"})


def test_an_unknown_option_may_be_a_misspelt_setting() -> None:
    with pytest.raises(FieldError, match=r"batch_siez is no option of task classification; did you mean 'batch_size'"):
        request("classification", {}, {"batch_siez": "3"})
