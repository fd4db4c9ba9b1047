"""Requests for tasks are refused at once, and without importing what work needs."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from switch_ema.bench.task import Task
from switch_ema.errors import InputError
from switch_ema.tasks.catalog import check, create
from switch_ema.tasks.classification import Classification
from switch_ema.tasks.entries import TASKS
from switch_ema.tasks.models import names
from tests.conftest import loaded_after

HEAVY = ("torch", "timm", "numpy", "sklearn", "pyarrow", "PIL", "torchvision", "lightning")
REQUEST = (
    "import switch_ema.tasks.catalog, switch_ema.data.catalog; "
    'switch_ema.tasks.catalog.check("classification", "digits", "timm/resnet18", {"train_size": 100})'
)

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown task": ({"task": "clasification"}, ["unknown task", "did you mean 'classification'"]),
    "unknown model": ({"model": "small-resnt"}, ["unknown model", "did you mean 'small-resnet'", "timm/NAME"]),
    "timm model without prefix": ({"model": "resnet26"}, ["unknown model 'resnet26'", "write timm/resnet26"]),
    "timm model with tag": ({"model": "resnet18.a1_in1k"}, ["write timm/resnet18.a1_in1k"]),
    "unknown timm model": ({"model": "timm/resnet19"}, ["unknown model 'timm/resnet19'", "did you mean 'timm/resnet"]),
    "timm without a name": ({"model": "timm/"}, ["unknown model 'timm/'", "timm/resnet18"]),
    "timm with the placeholder": ({"model": "timm/NAME"}, ["unknown model 'timm/NAME'", "timm/resnet18"]),
    "unknown data": ({"data": "digit"}, ["unknown data set or folder 'digit'", "did you mean 'digits'"]),
    "unknown option": ({"options": {"label_nois": 0.1}}, ["is no option", "did you mean 'label_noise'"]),
    "label noise above 1": ({"options": {"label_noise": 40}}, ["label_noise 40", "0 to 1"]),
    "label noise below 0": ({"options": {"label_noise": -0.1}}, ["label_noise -0.1", "0 to 1"]),
    "label noise nan": ({"options": {"label_noise": float("nan")}}, ["label_noise nan", "0 to 1"]),
    "label noise in words": ({"options": {"label_noise": "many"}}, ["label_noise many", "0 to 1"]),
    "train size 0": ({"options": {"train_size": 0}}, ["train_size 0", "at least 1"]),
    "train size a fraction": ({"options": {"train_size": 0.5}}, ["train_size 0.5", "whole number"]),
    "image size negative": ({"options": {"image_size": -8}}, ["image_size -8", "at least 1"]),
    "image size a flag": ({"options": {"image_size": True}}, ["image_size true", "whole number"]),
    "unknown augmentation": ({"options": {"augment": "crop"}}, ["augment crop", "crop-flip", "none"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_check_refuses(case: str) -> None:
    request, words = REFUSED[case]
    with pytest.raises(InputError) as caught:
        check(**{"task": "classification", **request})
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("case", [case for case, (request, _) in REFUSED.items() if "task" not in request])
def test_the_class_refuses_the_same(case: str) -> None:
    request, words = REFUSED[case]
    options = dict(request.get("options", {}))
    with pytest.raises(InputError) as caught:
        Classification(**{key: request[key] for key in ("data", "model") if key in request}, **options)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_there(task: str) -> None:
    entry = TASKS[task]
    assert check(task) == {}
    assert entry.default_model in entry.models
    assert entry.default_data in entry.data
    made = create(task, seed=0)
    assert isinstance(made, Task)
    assert (made.name, made.data) == (task, entry.default_data)
    assert made.num_train > 0
    assert made.metrics


def test_options_come_in_their_own_types() -> None:
    given = {"label_noise": "0.4", "train_size": "100", "skip_corrupt": "true", "augment": None}
    assert check("classification", options=given) == {"label_noise": 0.4, "train_size": 100, "skip_corrupt": True}
    assert [*map(type, check("classification", options=given).values())] == [float, int, bool]


def test_create_passes_everything_on() -> None:
    task = create("classification", seed=3, data="digits", model="mlp", options={"train_size": 100})
    assert (task.data, task.model, task.num_train) == ("digits", "mlp", 100)


def test_timm_names_are_timms() -> None:
    import timm

    assert names.timm_names() == set(timm.list_models())


def test_timm_names_may_have_a_tag() -> None:
    check("classification", model="timm/resnet18.a1_in1k")


@pytest.mark.parametrize("model", ["timm/resnet18", "resnet26"])
def test_without_timm(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_all_but_timm(name: str) -> ModuleSpec | None:
        return None if name == "timm" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_timm)
    monkeypatch.setattr(names, "_timm_names_if_any", names._timm_names_if_any.__wrapped__)
    with pytest.raises(
        InputError, match="unknown model" if model == "resnet26" else r"pip install \"switch-ema\[bench\]"
    ):
        check("classification", model=model)


@pytest.mark.parametrize(("code", "heavy"), [(REQUEST, False), (f"{REQUEST}; import numpy", True)])
def test_a_check_imports_nothing_heavy(code: str, heavy: bool, tmp_path: Path) -> None:
    assert loaded_after(code, tmp_path) & set(HEAVY) == ({"numpy"} if heavy else set())
