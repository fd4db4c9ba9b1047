"""Requests for tasks are refused at once, and without importing what work needs."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from switch_ema.errors import InputError
from switch_ema.tasks import catalog
from switch_ema.tasks.catalog import TASKS, check, create
from switch_ema.tasks.classification import Classification

HEAVY = ("torch", "timm", "numpy", "sklearn", "pyarrow", "PIL", "torchvision", "lightning")
REQUEST = (
    "import switch_ema.tasks.catalog, switch_ema.data.catalog; "
    'switch_ema.tasks.catalog.check("classification", "digits", "timm/resnet18", {"train_size": 100})'
)

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown task": ({"task": "clasification"}, ["unknown task", "did you mean 'classification'"]),
    "unknown model": ({"model": "small-resnt"}, ["unknown model", "did you mean 'small-resnet'", "timm/NAME"]),
    "timm model without prefix": ({"model": "resnet18"}, ["unknown model 'resnet18'", "write timm/resnet18"]),
    "timm model with tag": ({"model": "resnet18.a1_in1k"}, ["write timm/resnet18.a1_in1k"]),
    "unknown timm model": ({"model": "timm/resnet19"}, ["unknown model 'timm/resnet19'", "did you mean 'timm/resnet"]),
    "timm without a name": ({"model": "timm/"}, ["unknown model 'timm/'", "timm/resnet18"]),
    "timm with the placeholder": ({"model": "timm/NAME"}, ["unknown model 'timm/NAME'", "timm/resnet18"]),
    "unknown data": ({"data": "digit"}, ["unknown data set or folder 'digit'", "did you mean 'digits'"]),
    "unknown option": ({"options": {"label_nois": 0.1}}, ["unknown option", "did you mean 'label_noise'"]),
    "label noise above 1": ({"options": {"label_noise": 40}}, ["label_noise 40", "0 to 1"]),
    "label noise below 0": ({"options": {"label_noise": -0.1}}, ["label_noise -0.1", "0 to 1"]),
    "label noise nan": ({"options": {"label_noise": float("nan")}}, ["label_noise nan", "0 to 1"]),
    "label noise text": ({"options": {"label_noise": "0.4"}}, ["label_noise '0.4'", "0 to 1"]),
    "train size 0": ({"options": {"train_size": 0}}, ["train_size 0", "at least 1"]),
    "train size a fraction": ({"options": {"train_size": 0.5}}, ["train_size 0.5", "whole number"]),
    "image size negative": ({"options": {"image_size": -8}}, ["image_size -8", "at least 1"]),
    "image size a flag": ({"options": {"image_size": True}}, ["image_size True", "whole number"]),
    "unknown augmentation": ({"options": {"augment": "crop"}}, ["unknown augment 'crop'", "crop-flip", "none"]),
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
    with pytest.raises(TypeError if "label_nois" in options else InputError) as caught:
        Classification(**{key: request[key] for key in ("data", "model") if key in request}, **options)
    assert "label_nois" in options or [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_there(task: str) -> None:
    entry = check(task)
    assert entry is TASKS[task]
    assert entry.default_model in entry.models
    assert entry.default_data in entry.data
    made = create(task, seed=0)
    assert (made.name, made.data, made.model) == (task, entry.default_data, entry.default_model)
    arguments = inspect.signature(type(made)).parameters
    assert arguments.keys() == {"data", "model", "seed", *entry.options}


def test_create_passes_everything_on() -> None:
    task = create("classification", seed=3, data="digits", model="mlp", options={"train_size": 100})
    assert (task.data, task.model, task.num_train) == ("digits", "mlp", 100)


def test_timm_names_are_timms() -> None:
    import timm

    assert catalog.timm_names() == set(timm.list_models())


def test_timm_names_may_have_a_tag() -> None:
    check("classification", model="timm/resnet18.a1_in1k")


@pytest.mark.parametrize("model", ["timm/resnet18", "resnet18"])
def test_without_timm(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_all_but_timm(name: str) -> ModuleSpec | None:
        return None if name == "timm" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_timm)
    monkeypatch.setattr(catalog, "_timm_names_if_any", catalog._timm_names_if_any.__wrapped__)
    with pytest.raises(
        InputError, match="unknown model" if model == "resnet18" else r"pip install \"switch-ema\[bench\]"
    ):
        check("classification", model=model)


@pytest.mark.parametrize(("code", "heavy"), [(REQUEST, False), (f"{REQUEST}; import numpy", True)])
def test_a_check_imports_nothing_heavy(code: str, heavy: bool, tmp_path: Path) -> None:
    report = f"import sys; {code}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == ("['numpy']" if heavy else "[]")
