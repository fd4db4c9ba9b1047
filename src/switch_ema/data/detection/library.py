"""The library that computes masks and average precision as COCO does: faster-coco-eval, or else pycocotools."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from switch_ema.errors import InputError

_NAMES = ("faster_coco_eval", "pycocotools")


@dataclass(frozen=True)
class CocoLibrary:
    """What is used of it.

    Attributes:
        index: Its class ``COCO``.
        evaluation: Its class ``COCOeval``.
        mask: Its module of functions on run-length codes.
    """

    index: Any
    evaluation: Any
    mask: Any


def check_installed() -> None:
    """Check that one of the libraries is there, without importing it.

    Raises:
        InputError: Neither is installed.
    """
    if not any(map(importlib.util.find_spec, _NAMES)):
        raise _missing()


def coco_library() -> CocoLibrary:
    """Import faster-coco-eval, or pycocotools where that alone is installed.

    Raises:
        InputError: Neither can be imported.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster, mask
    except ImportError:
        try:
            from pycocotools import mask
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as COCOeval_faster
        except ImportError as error:
            raise _missing() from error
    return CocoLibrary(COCO, COCOeval_faster, mask)


def _missing() -> InputError:
    return InputError(
        "detection and segmentation need faster-coco-eval or pycocotools, neither is installed; "
        'run: pip install "switch-ema[bench]"'
    )
