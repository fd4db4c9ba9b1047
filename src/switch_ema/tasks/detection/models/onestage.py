"""Detectors of one stage: every place of every level says what is there."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from switch_ema.tasks.detection.models.plan import STANDARD, Request
from switch_ema.tasks.detection.models.precision import single
from switch_ema.tasks.detection.models.trunk import Trunk


class _NoBackground:
    """Counts classes from 0, as sigmoids have no output for the background, where the caller counts from 1."""

    head: nn.Module

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        single(self.head)

    def compute_loss(self, targets: list[dict[str, Tensor]], *outputs: Any) -> dict[str, Tensor]:
        targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        losses: dict[str, Tensor] = super().compute_loss(targets, *outputs)  # type: ignore[misc]
        return losses

    def postprocess_detections(self, *outputs: Any) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = super().postprocess_detections(*outputs)  # type: ignore[misc]
        return [{**image, "labels": image["labels"] + 1} for image in found]


class _RetinaNet(_NoBackground, RetinaNet):  # type: ignore[misc]
    pass


class _FCOS(_NoBackground, FCOS):  # type: ignore[misc]
    pass


def retinanet(trunk: Trunk, request: Request) -> nn.Module:
    """Make a RetinaNet: dense anchors of three sizes and shapes, focal loss, L1 loss of the boxes.

    References:
        Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, arXiv:1708.02002, 2017.
    """
    sizes = request.plan.dense_anchors
    model: nn.Module = _RetinaNet(
        _pyramid(trunk, request),
        request.num_classes,
        request.sizes,
        request.max_size,
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        score_thresh=request.plan.score,
        detections_per_img=request.plan.detections,
    )
    return model


def fcos(trunk: Trunk, request: Request) -> nn.Module:
    """Make an FCOS with centre sampling: focal loss, GIoU loss of the boxes, centre-ness.

    References:
        Tian, Shen, Chen, He: FCOS: A Simple and Strong Anchor-Free Object Detector, arXiv:2006.09214, 2020.
    """
    plan = request.plan
    pyramid = _pyramid(trunk, request)
    model: nn.Module = _FCOS(
        pyramid,
        request.num_classes,
        request.sizes,
        request.max_size,
        anchor_generator=AnchorGenerator(plan.dense_strides, ((1.0,),) * len(plan.dense_strides)),
        head=FCOSHead(pyramid.out_channels, 1, request.num_classes, plan.fcos_convs),
        score_thresh=plan.score,
        detections_per_img=plan.detections,
    )
    return model


def _pyramid(trunk: Trunk, request: Request) -> Any:
    channels = request.plan.channels
    if request.plan is STANDARD:
        return trunk.pyramid(2, channels, LastLevelP6P7(channels, channels))
    return trunk.pyramid(1, channels)
