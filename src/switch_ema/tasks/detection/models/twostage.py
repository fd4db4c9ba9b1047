"""Detectors of two stages: proposals, then what is in each of them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from switch_ema.tasks.detection.models.cascade import STAGES, CascadeHeads, ClassAgnosticPredictor
from switch_ema.tasks.detection.models.plan import MEAN, STD, Plan, Request
from switch_ema.tasks.detection.models.precision import single
from switch_ema.tasks.detection.models.trunk import Trunk

_POOLED = 7  # side of the features from which a box head works


def rcnn(trunk: Trunk, request: Request, *, cascade: bool, masks: bool) -> nn.Module:
    """Make a Faster, Mask, Cascade or Cascade Mask R-CNN, with the weights' names and losses of torchvision.

    Args:
        trunk: The backbone.
        request: What is asked of the detector.
        cascade: Three box heads in a row (see `switch_ema.tasks.detection.models.cascade.CascadeHeads`) for one.
        masks: A mask head on top; in a cascade, upon the boxes of its last stage.

    References:
        Ren, He, Girshick, Sun: Faster R-CNN, arXiv:1506.01497, 2015.
        He, Gkioxari, Dollár, Girshick: Mask R-CNN, arXiv:1703.06870, 2017.
    """
    pyramid = trunk.pyramid(1, request.plan.channels)
    levels = [str(level) for level in range(len(trunk.channels))]
    proposals = _proposals(request.plan)
    pool = MultiScaleRoIAlign(levels, _POOLED, sampling_ratio=2)
    if cascade:
        stages = [_box_heads(request, pool, *stage, agnostic=True) for stage in STAGES]
        heads, last = CascadeHeads(stages), stages[-1]
    else:
        heads = last = _box_heads(request, pool, 0.5, (10.0, 10.0, 5.0, 5.0), agnostic=False)
    if masks:
        _add_masks(last, request, levels)
    transform = GeneralizedRCNNTransform(request.sizes, request.max_size, MEAN, STD)
    model: nn.Module = GeneralizedRCNN(pyramid, proposals, heads, transform)
    return model


def _proposals(plan: Plan) -> Any:
    anchors = AnchorGenerator(plan.proposal_anchors, ((0.5, 1.0, 2.0),) * len(plan.proposal_anchors))
    return RegionProposalNetwork(
        anchors,
        single(RPNHead(plan.channels, anchors.num_anchors_per_location()[0])),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=plan.anchor_samples,
        positive_fraction=0.5,
        pre_nms_top_n=dict(zip(("training", "testing"), plan.before_nms, strict=True)),
        post_nms_top_n=dict(zip(("training", "testing"), plan.after_nms, strict=True)),
        nms_thresh=0.7,
    )


def _box_heads(request: Request, pool: nn.Module, iou: float, box_weights: tuple[float, ...], *, agnostic: bool) -> Any:
    plan, outputs = request.plan, request.num_classes + 1
    predictor = ClassAgnosticPredictor if agnostic else FastRCNNPredictor
    return RoIHeads(
        pool,
        TwoMLPHead(plan.channels * _POOLED**2, plan.hidden),
        single(predictor(plan.hidden, outputs)),
        fg_iou_thresh=iou,
        bg_iou_thresh=iou,
        batch_size_per_image=plan.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=box_weights,
        score_thresh=plan.score,
        nms_thresh=0.5,
        detections_per_img=plan.detections,
    )


def _add_masks(heads: Any, request: Request, levels: list[str]) -> None:
    plan = request.plan
    heads.mask_roi_pool = MultiScaleRoIAlign(levels, plan.mask_pool, sampling_ratio=2)
    heads.mask_head = MaskRCNNHeads(plan.channels, plan.mask_layers, 1)
    width = plan.mask_layers[-1]
    heads.mask_predictor = single(MaskRCNNPredictor(width, width, request.num_classes + 1))
