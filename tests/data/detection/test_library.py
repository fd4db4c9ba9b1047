"""The library for masks and average precision."""

from __future__ import annotations

import sys

import pytest

from switch_ema.data.detection.library import check_installed, coco_library

NAMES = ("faster_coco_eval", "pycocotools")


@pytest.mark.parametrize("there", NAMES)
def test_one_suffices(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, next(name for name in NAMES if name != there), None)
    check_installed()
    library = coco_library()
    assert {part.__module__.split(".")[0] for part in (library.index, library.evaluation)} == {there}
    assert library.mask.__name__.split(".")[0] == there
