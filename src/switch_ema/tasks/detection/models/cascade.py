"""The heads of Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_inference
from torchvision.ops import clip_boxes_to_image

STAGES = (
    (0.5, (10.0, 10.0, 5.0, 5.0)),
    (0.6, (20.0, 20.0, 10.0, 10.0)),
    (0.7, (30.0, 30.0, 15.0, 15.0)),
)
"""Least IoU of a positive example, and the weights of the box regression, of each stage."""

LOSS_WEIGHTS = (1.0, 0.5, 0.25)
"""Share of each stage's losses."""

Boxes = list[Tensor]
"""Boxes (n, 4), x1, y1, x2, y2 in pixels, of each image."""

Shapes = list[tuple[int, int]]
"""Height and width of each image in pixels."""


class ClassAgnosticPredictor(nn.Module):
    """Scores for each class, and one box for all of them.

    Args:
        in_channels: Number of features.
        num_classes: Number of classes, with the background.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_channels, num_classes)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, in_channels) to logits (n, num_classes) and the box, once for each class: (n, 4 num_classes)."""
        logits: Tensor = self.cls_score(features)
        return logits, self.bbox_pred(features).repeat(1, logits.shape[1])


class CascadeHeads(nn.Module):
    """Box heads in a row, each of which learns from, and improves, the boxes of the one before.

    Stage t is positive about a box whose IoU with a true one is at least u_t = 0.5, 0.6, 0.7. Of the boxes b it gets
    and their corrections d it hands on ``b' = decode_t(b, d)``, clipped to the image and without gradient. The loss is

        L = sum over t of lambda_t (L_class + L_box),    lambda = 1, 1/2, 1/4

    and in evaluation the class probabilities are the mean of those of all stages, each about the boxes it got.

    Args:
        stages: Torchvision's RoIHeads, with predictors that are class-agnostic; the last may have a mask head.

    References:
        Cai, Vasconcelos: Cascade R-CNN: Delving into High Quality Object Detection, arXiv:1712.00726, 2017.
    """

    def __init__(self, stages: Sequence[Any]) -> None:
        super().__init__()
        self.stages: Any = nn.ModuleList(stages)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: Boxes,
        image_shapes: Shapes,
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections in evaluation, and losses in training.

        Args:
            features: The feature pyramid, maps (n, channels, height, width).
            proposals: Boxes to start from.
            image_shapes: Height and width of each image in pixels.
            targets: The true boxes, labels and, with a mask head, masks of each image; in training alone.

        Returns:
            Detections of each image and no losses, or none and the losses by name, weighted.
        """
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets)
        return self._detections(features, proposals, image_shapes), {}

    def _losses(self, features: Any, proposals: Boxes, shapes: Shapes, targets: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        *before, last = self.stages
        for number, stage in enumerate(before):
            chosen, _, labels, wanted = stage.select_training_samples(proposals, targets)
            logits, deltas = _predict(stage, features, chosen, shapes)
            loss_class, loss_box = fastrcnn_loss(logits, deltas, labels, wanted)
            losses |= _named({"loss_classifier": loss_class, "loss_box_reg": loss_box}, number)
            proposals = refined(stage, deltas, chosen, shapes)
        _, found = last(features, proposals, shapes, targets)
        masks = {name: found.pop(name) for name in list(found) if name == "loss_mask"}
        return losses | _named(found, len(before)) | masks

    def _detections(self, features: Any, proposals: Boxes, shapes: Shapes) -> list[dict[str, Tensor]]:
        last = self.stages[-1]
        scores = []
        for stage in self.stages:
            logits, deltas = _predict(stage, features, proposals, shapes)
            scores.append(logits.softmax(-1))
            if stage is not last:
                proposals = refined(stage, deltas, proposals, shapes)
        mean = torch.stack(scores).mean(0)
        found = last.postprocess_detections(mean.log(), deltas, proposals, shapes)  # its softmax undoes the logarithm
        result = [{"boxes": b, "scores": s, "labels": c} for b, s, c in zip(*found, strict=True)]
        if last.has_mask():
            boxes, _, labels = found
            masks = last.mask_predictor(last.mask_head(last.mask_roi_pool(features, boxes, shapes)))
            for image, mask in zip(result, maskrcnn_inference(masks, labels), strict=True):
                image["masks"] = mask
        return result


def refined(stage: Any, deltas: Tensor, boxes: Boxes, shapes: Shapes) -> Boxes:
    """Return the boxes as a stage corrects them, within the images and without gradient.

    Args:
        stage: RoIHeads, of which the box coder is used.
        deltas: Corrections (n, 4 num_classes) of all boxes, the same for every class.
        boxes: Boxes of each image, n in all.
        shapes: Height and width of each image in pixels.
    """
    moved = stage.box_coder.decode(deltas.detach()[:, :4], boxes)[:, 0]
    parts = moved.split([len(image) for image in boxes])
    return [clip_boxes_to_image(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def _predict(stage: Any, features: Any, boxes: Boxes, shapes: Shapes) -> tuple[Tensor, Tensor]:
    predicted: tuple[Tensor, Tensor] = stage.box_predictor(stage.box_head(stage.box_roi_pool(features, boxes, shapes)))
    return predicted


def _named(losses: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Weight the losses of a stage, and number them from 1."""
    return {f"{name}_{number + 1}": LOSS_WEIGHTS[number] * loss for name, loss in losses.items()}
