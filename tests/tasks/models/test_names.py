"""Names of networks are checked at once, without what work needs."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from switch_ema.errors import InputError
from switch_ema.tasks.models import names
from switch_ema.tasks.models.build import _MAKERS
from switch_ema.tasks.models.names import MODELS, check_model, timm_name, timm_names, wide_resnet_shape
from tests.conftest import loaded_after


@pytest.mark.parametrize("name", [*_MAKERS, "wrn-28-10", "wrn-10-1", "timm/resnet50", "timm/resnet18.a1_in1k"])
def test_known(name: str) -> None:
    check_model(name)


def test_every_name_has_a_maker() -> None:
    assert {*_MAKERS, "wrn-D-K", "timm/NAME"} == set(MODELS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("small-resnt", "unknown model 'small-resnt'; did you mean 'small-resnet'"),
        ("resnet26", "it is one of timm's: write timm/resnet26"),
        ("resnet26.bt_in1k", r"write timm/resnet26\.bt_in1k"),
        ("timm/resnet19", "did you mean 'timm/resnet"),
        ("timm/", "an example is timm/resnet18"),
        ("timm/NAME", "unknown model 'timm/NAME'"),
        ("wrn-D-K", "unknown model 'wrn-D-K'; write wrn-D-K with depth D = 6n"),
        ("wrn-27-10", "unknown model 'wrn-27-10'"),
        ("wrn-4-1", "unknown model 'wrn-4-1'"),
        ("wrn-16-0", "unknown model 'wrn-16-0'"),
        ("wrn-16-4x", "unknown model 'wrn-16-4x'"),
        ("wrn-१६-4", "unknown model"),
        ("", "unknown model ''"),
    ],
)
def test_unknown(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["wrn-28-10", "timm/resnet18", "resnet18"])
def test_only_what_a_task_accepts(name: str) -> None:
    with pytest.raises(InputError, match=rf"unknown model {name!r} \(known: mlp\)"):
        check_model(name, {"mlp": "two hidden layers"})


def test_depth_and_width() -> None:
    assert wide_resnet_shape("wrn-10-1") == (1, 1)
    assert wide_resnet_shape("wrn-40-2") == (6, 2)


def test_timm_names_are_timms() -> None:
    import timm

    assert timm_names() == set(timm.list_models())
    assert timm_name("timm/resnet18.a1_in1k") == "resnet18"


@pytest.mark.parametrize(
    ("model", "words"), [("timm/resnet18", r"pip install \"switch-ema\[bench\]"), ("resnet26", "unknown model")]
)
def test_without_timm(model: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def find_all_but_timm(name: str) -> ModuleSpec | None:
        return None if name == "timm" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_timm)
    monkeypatch.setattr(names, "_timm_names_if_any", names._timm_names_if_any.__wrapped__)
    with pytest.raises(InputError, match=words):
        check_model(model)


@pytest.mark.parametrize(("name", "heavy"), [("names", False), ("build", True)])
def test_names_load_nothing_heavy(name: str, heavy: bool) -> None:
    loaded = loaded_after(f"import switch_ema.tasks.models.{name}")
    assert ("torch" in loaded) is heavy
