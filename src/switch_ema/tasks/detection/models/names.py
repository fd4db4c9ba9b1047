"""The names of detectors and backbones, checked without importing torch: the standard library suffices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from switch_ema.errors import FieldError, unknown
from switch_ema.libraries import require

MODELS: Mapping[str, str] = {
    "retinanet": "RetinaNet: one stage, anchors, focal loss",
    "fcos": "FCOS: one stage, no anchors, centre-ness",
    "faster-rcnn": "Faster R-CNN: proposals, then classes and boxes",
    "mask-rcnn": "Mask R-CNN: Faster R-CNN and a mask for each box",
    "cascade-rcnn": "Cascade R-CNN: three box heads in a row, for IoU 0.5, 0.6 and 0.7",
    "cascade-mask-rcnn": "Cascade Mask R-CNN: Cascade R-CNN and a mask for each box",
    "rt-detr": "RT-DETR: a transformer, one-to-one matching, no non-maximum suppression",
}
"""All detectors."""

_FOR_BOXES = {"mask-rcnn": "faster-rcnn", "cascade-mask-rcnn": "cascade-rcnn"}

MASK_MODELS = tuple(_FOR_BOXES)
"""Those that give masks."""

BACKBONES: Mapping[str, str] = {
    "small": "three residual blocks, strides 4 to 16, for a CPU and images of about 64 to 128 pixels",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
}
"""The networks whose feature maps detectors see; with a feature pyramid on top, but in rt-detr, which has its own."""

WEIGHT_ENDINGS = (".pth", ".pt", ".safetensors")
"""Endings of files with weights."""

_LIBRARIES = ("torchvision", "transformers", "scipy")


def check_detector(model: str, backbone: str, masks: bool) -> None:
    """Check the names of a detector and its backbone, and that the libraries they need are there.

    Args:
        model: One of `MODELS`.
        backbone: One of `BACKBONES`.
        masks: Whether masks are learnt: true asks for one of `MASK_MODELS`, false for one of the others.

    Raises:
        InputError: A name is unknown, the model does not give what is asked for, or a library is not installed.

    Example:
        >>> check_detector("retinanet", "small", masks=True)
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: model retinanet: it gives no masks; write mask-rcnn or cascade-mask-rcnn
    """
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    if backbone not in BACKBONES:
        raise unknown("backbone", backbone, BACKBONES)
    if masks and model not in MASK_MODELS:
        raise FieldError("model", f"{model}: it gives no masks; write {' or '.join(MASK_MODELS)}")
    if not masks and model in MASK_MODELS:
        raise FieldError("model", f"{model}: it learns masks; for boxes alone write {_FOR_BOXES[model]}")
    require(f"model {model}", *(_LIBRARIES if model == "rt-detr" else _LIBRARIES[:1]))


def check_weights(weights: str | None, backbone: str, frozen_stages: bool) -> None:
    """Check that a file of weights is there and has a use; what it holds is checked when it is loaded.

    Args:
        weights: Path of a torchvision-style state_dict, or none.
        backbone: One of `BACKBONES`.
        frozen_stages: Whether the stem and the first stage keep their weights.

    Raises:
        FieldError: The file is missing or has another ending, the backbone is none of torchvision's, or stages are
            frozen that nobody has trained.

    Example:
        >>> check_weights(None, "resnet50", frozen_stages=True)
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: frozen_stages true: nobody has trained them; give weights, or leave it out
    """
    if weights is None:
        if frozen_stages:
            raise FieldError("frozen_stages", "true: nobody has trained them; give weights, or leave it out")
        return
    if backbone == "small":
        raise FieldError("weights", f"{weights}: there are none for the small backbone; write resnet18 or resnet50")
    if Path(weights).suffix not in WEIGHT_ENDINGS:
        raise FieldError("weights", f"{weights}: write the path of a file that ends in {', '.join(WEIGHT_ENDINGS)}")
    if not Path(weights).is_file():
        raise FieldError("weights", f"{weights}: there is no such file; write the path of a ResNet's state_dict")
