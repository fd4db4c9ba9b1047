"""Names of detectors are checked at once, without what work needs."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from switch_ema.errors import InputError
from switch_ema.tasks.detection.models.build import _MAKERS
from switch_ema.tasks.detection.models.names import BACKBONES, MASK_MODELS, MODELS, check_detector, check_weights
from tests.conftest import loaded_after


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("model", MODELS)
def test_known(model: str, backbone: str) -> None:
    check_detector(model, backbone, masks=model in MASK_MODELS)


def test_every_name_has_a_maker() -> None:
    assert set(_MAKERS) == set(MODELS)
    assert set(MASK_MODELS) < set(MODELS)


@pytest.mark.parametrize(
    ("model", "backbone", "masks", "words"),
    [
        ("retinanett", "small", False, "unknown model 'retinanett'; did you mean 'retinanet'"),
        ("fcos", "resnet-50", False, "unknown backbone 'resnet-50'; did you mean 'resnet50'"),
        ("rt-detr", "small", True, "model rt-detr: it gives no masks; write mask-rcnn or cascade-mask-rcnn"),
        ("mask-rcnn", "small", False, "model mask-rcnn: it learns masks; for boxes alone write faster-rcnn"),
        ("cascade-mask-rcnn", "small", False, "for boxes alone write cascade-rcnn"),
    ],
)
def test_unknown(model: str, backbone: str, masks: bool, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_detector(model, backbone, masks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("model", "library"), [("fcos", "torchvision"), ("rt-detr", "transformers")])
def test_a_missing_library(model: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_all_but_one(name: str) -> ModuleSpec | None:
        return None if name == library else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_one)
    with pytest.raises(InputError, match=rf'{model} needs {library}, .* pip install "switch-ema\[bench\]"'):
        check_detector(model, "small", masks=False)


def test_weights_that_fit(tmp_path: Path) -> None:
    file = tmp_path / "resnet50.pth"
    file.write_bytes(b"")
    check_weights(str(file), "resnet50", frozen_stages=True)
    check_weights(None, "small", frozen_stages=False)


@pytest.mark.parametrize(
    ("weights", "backbone", "frozen", "words"),
    [
        (None, "resnet50", True, "frozen_stages true: nobody has trained them; give weights"),
        ("here.pth", "small", False, "there are none for the small backbone; write resnet18 or resnet50"),
        ("here.zip", "resnet18", False, "weights here.zip: write the path of a file that ends in .pth"),
        ("nowhere.pth", "resnet18", False, "weights nowhere.pth: there is no such file"),
    ],
)
def test_weights_that_do_not(weights: str | None, backbone: str, frozen: bool, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_weights(weights, backbone, frozen)


def test_names_load_nothing_heavy() -> None:
    loaded = loaded_after("import switch_ema.tasks.detection.models.names")
    assert not loaded & {"torch", "torchvision", "transformers", "numpy"}
