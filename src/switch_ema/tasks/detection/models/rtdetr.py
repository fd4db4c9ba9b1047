"""RT-DETR of the transformers library, called as torchvision's detectors are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_convert, clip_boxes_to_image, remove_small_boxes
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

from switch_ema.tasks.detection.models.plan import MEAN, STD, Request
from switch_ema.tasks.detection.models.precision import single
from switch_ema.tasks.detection.models.trunk import Trunk

Target = dict[str, Tensor]


def rt_detr(trunk: Trunk, request: Request) -> nn.Module:
    """Make an RT-DETR on the three coarsest feature maps of a backbone, with untrained weights.

    References:
        Zhao, Lv, Xu, Wei, Wang, Dang, Liu, Chen: DETRs Beat YOLOs on Real-time Object Detection, arXiv:2304.08069,
        2023.
    """
    first = len(trunk.channels) - 2
    network = RTDetrForObjectDetection(_config(trunk.channels[-3:], first, request))
    network.model.backbone = _Maps(trunk.maps(first))
    for part in (network.model.encoder_input_proj, network.model.encoder, network.model.decoder_input_proj):
        for module in part.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Conv2d):
                module.reset_parameters()  # the library expects trained weights, and starts gains near 0
    model, decoder = network.model, network.model.decoder
    heads = (model.enc_score_head, model.enc_bbox_head, *decoder.class_embed, *decoder.bbox_embed)
    for part in (*model.decoder_input_proj, *heads):
        single(part)
    transform = GeneralizedRCNNTransform(request.sizes, request.max_size, MEAN, STD)
    return RTDetr(network, transform, request.plan.least_side, request.plan.detections)


class RTDetr(nn.Module):
    """RT-DETR in torchvision's calling convention.

    Images are scaled, normalised and padded as by torchvision; boxes are learnt in parts of the padded images. The
    losses are the library's own: varifocal, L1 and GIoU, for each layer of the decoder, for the chosen queries, and
    for noisy copies of the true boxes.

    Args:
        network: RTDetrForObjectDetection.
        transform: GeneralizedRCNNTransform.
        least_side: Images are padded to this height and width at least, a multiple of 32 pixels.
        detections: Most detections in an image.
    """

    def __init__(self, network: nn.Module, transform: nn.Module, least_side: int, detections: int) -> None:
        super().__init__()
        self.network: Any = network
        self.transform: Any = transform
        self._least_side = least_side
        self._detections = detections

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        """Return losses by name in training, and detections of each image in evaluation.

        Args:
            images: Images (3, height, width), from 0 to 1.
            targets: Boxes (n, 4), x1, y1, x2, y2 in pixels, and labels (n,), from 1, of each image.
        """
        batch, targets = self.transform(images, targets)
        height, width = batch.tensors.shape[-2:]
        canvas = pad(batch.tensors, (0, max(0, self._least_side - width), 0, max(0, self._least_side - height)))
        extent = canvas.new_tensor(canvas.shape[:-3:-1]).repeat(2)
        if self.training:
            return self._losses(canvas, [_wanted(target, extent) for target in targets or []])
        outputs = self.network(canvas)
        found = self._found(outputs, extent, batch.image_sizes)
        return self.transform.postprocess(found, batch.image_sizes, [image.shape[-2:] for image in images])

    def _losses(self, canvas: Tensor, wanted: list[Target]) -> dict[str, Tensor]:
        try:
            losses: dict[str, Tensor] = self.network(canvas, labels=wanted).loss_dict
        except ValueError as error:
            if "corner" not in str(error):
                raise
            weights = [weight.sum() for weight in self.parameters() if weight.requires_grad]
            return {"loss_vfl": math.nan * torch.stack(weights).sum()}  # diverged: the library refuses boxes of nan
        if not any(len(target["boxes"]) for target in wanted):  # several processes wait for a gradient of every weight
            losses["loss_dn"] = 0.0 * self.network.model.denoising_class_embed.weight.sum()
        return losses

    def _found(self, outputs: Any, extent: Tensor, sizes: list[tuple[int, int]]) -> list[Target]:
        """Take the best pairs of query and class; boxes are in pixels of the scaled images."""
        scores = outputs.logits.sigmoid()
        queries, classes = scores.shape[1:]
        best, places = scores.flatten(1).topk(min(self._detections, queries * classes))
        boxes = box_convert(outputs.pred_boxes * extent, "cxcywh", "xyxy")
        found = []
        for image, size in enumerate(sizes):
            inside = clip_boxes_to_image(boxes[image, places[image] // classes], size)
            kept = remove_small_boxes(inside, 1e-2)
            labels = places[image, kept] % classes + 1
            found.append({"boxes": inside[kept], "scores": best[image, kept], "labels": labels})
        return found


class _Maps(nn.Module):
    """A backbone as the library's models call it: maps, each with a mask, which they do not use."""

    def __init__(self, maps: nn.Module) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(found, mask) for found in self.maps(images).values()]


def _wanted(target: Target, extent: Tensor) -> Target:
    """Count labels from 0, and give boxes as centre, width and height in parts of the padded image."""
    boxes = box_convert(target["boxes"], "xyxy", "cxcywh") / extent
    return {"class_labels": target["labels"] - 1, "boxes": boxes}


def _config(channels: tuple[int, ...], first: int, request: Request) -> RTDetrConfig:
    plan = request.plan
    replaced = RTDetrResNetConfig(  # tells the channels; the backbone itself is ours
        embedding_size=8, hidden_sizes=list(channels), depths=[1, 1, 1], out_indices=[1, 2, 3]
    )
    return RTDetrConfig(
        backbone_config=replaced,
        freeze_backbone_batch_norms=False,
        num_labels=request.num_classes,
        d_model=plan.channels,
        encoder_hidden_dim=plan.channels,
        encoder_in_channels=list(channels),
        decoder_in_channels=[plan.channels] * 3,
        feat_strides=[2 ** (first + 1 + level) for level in range(3)],
        encoder_ffn_dim=plan.feed_forward,
        decoder_ffn_dim=plan.feed_forward,
        encoder_attention_heads=plan.heads,
        decoder_attention_heads=plan.heads,
        decoder_layers=plan.decoder_layers,
        num_queries=plan.queries,
        num_denoising=plan.denoising,
        initializer_bias_prior_prob=0.01,
        initializer_range=(3 * plan.channels) ** -0.5,  # as torch draws a layer of so many inputs
    )
