"""Detectors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from switch_ema.tasks.detection.models.names import check_detector, check_weights
from switch_ema.tasks.detection.models.onestage import fcos, retinanet
from switch_ema.tasks.detection.models.plan import SMALL, STANDARD, Request
from switch_ema.tasks.detection.models.trunk import Trunk, make_trunk
from switch_ema.tasks.detection.models.twostage import rcnn


def _rt_detr(trunk: Trunk, request: Request) -> nn.Module:
    from switch_ema.tasks.detection.models.rtdetr import rt_detr  # transformers loads slowly, and it alone needs it

    return rt_detr(trunk, request)


_MAKERS: Mapping[str, Callable[[Trunk, Request], nn.Module]] = {
    "retinanet": retinanet,
    "fcos": fcos,
    "faster-rcnn": partial(rcnn, cascade=False, masks=False),
    "mask-rcnn": partial(rcnn, cascade=False, masks=True),
    "cascade-rcnn": partial(rcnn, cascade=True, masks=False),
    "cascade-mask-rcnn": partial(rcnn, cascade=True, masks=True),
    "rt-detr": _rt_detr,
}


def build_detector(
    model: str,
    num_classes: int,
    *,
    masks: bool,
    backbone: str = "small",
    sizes: tuple[int, ...] = (800,),
    max_size: int = 1333,
    weights: str | None = None,
    frozen_stages: bool = False,
) -> nn.Module:
    """Make a detector; untrained weights come from torch's global random generator.

    It scales images to one of `sizes`, normalises them by ImageNet's mean and standard deviation, and pads a batch to a
    multiple of 32 pixels, so images of any size will do. With the ``small`` backbone its parts are small too, and its
    anchors fit objects of about 8 to 100 pixels; with the others they have the sizes that are usual on COCO.

    Args:
        model: One of `switch_ema.tasks.detection.models.names.MODELS`.
        num_classes: Number of classes, at least 1; the background is not counted.
        masks: Whether masks are learnt too; true for ``mask-rcnn`` and ``cascade-mask-rcnn``, false for the others.
        backbone: One of `switch_ema.tasks.detection.models.names.BACKBONES`.
        sizes: Shorter sides in pixels to which images are scaled: in training one of them, drawn for each image from
            torch's global random generator; in evaluation the last.
        max_size: Longest side of a scaled image in pixels; where it would be longer, the shorter side is less.
        weights: Path of a torchvision-style state_dict for a ResNet (.pth, .pt or .safetensors), such as one trained
            on ImageNet. Its BatchNorm is frozen then; otherwise it is trained.
        frozen_stages: Whether the stem and the first stage keep these weights.

    Returns:
        A module. In training it maps a list of images (3, height, width), float from 0 to 1, and a list of targets,
        dicts with ``boxes`` (n, 4), x1, y1, x2, y2 in pixels, ``labels`` (n,) from 1 to `num_classes` and, with masks,
        ``masks`` (n, height, width), uint8, to a dict of losses, whose sum is to be minimised; n may be 0. In
        evaluation it maps the images to a list of dicts with ``boxes``, ``scores``, ``labels`` and, with masks,
        ``masks`` (n, 1, height, width), probabilities, in pixels of the images given, best first.

    Raises:
        InputError: A name is unknown, arguments do not go together, or the file of weights does not fit.

    Example:
        >>> from torch import rand
        >>> detector = build_detector("retinanet", 10, masks=False, sizes=(64,)).eval()
        >>> sorted(detector([rand(3, 48, 64)])[0])
        ['boxes', 'labels', 'scores']
    """
    check_detector(model, backbone, masks)
    check_weights(weights, backbone, frozen_stages)
    request = Request(num_classes, tuple(sizes), max_size, SMALL if backbone == "small" else STANDARD)
    return _MAKERS[model](make_trunk(backbone, weights, frozen_stages), request)
