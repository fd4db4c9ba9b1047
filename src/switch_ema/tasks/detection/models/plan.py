"""The sizes of a detector's parts: those of COCO, and small ones for a CPU and images of about 64 to 128 pixels."""

from __future__ import annotations

from dataclasses import dataclass

from switch_ema.errors import InputError

Sizes = tuple[tuple[int, ...], ...]

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of ImageNet's pixels, red, green, blue


@dataclass(frozen=True)
class Plan:
    """The sizes of a detector's parts.

    Attributes:
        channels: Channels of the feature pyramid.
        proposal_anchors: Sides of the anchors of the proposal network in pixels, for each level.
        dense_anchors: Sides of RetinaNet's anchors in pixels, for each level.
        dense_strides: Strides of the levels that FCOS sees, in pixels.
        fcos_convs: Layers of each of FCOS's branches.
        hidden: Units of the layers of a box head.
        mask_layers: Channels of the layers of the mask head.
        mask_pool: Side of the features from which a mask of twice that side is made.
        anchor_samples: Anchors of an image of which the proposal network learns.
        box_samples: Proposals of an image of which a box head learns.
        before_nms: Proposals kept on each level before non-maximum suppression, in training and evaluation.
        after_nms: Proposals kept of an image after it, in training and evaluation.
        score: Detections below this score are dropped, but in RT-DETR, which keeps the best of all queries.
        detections: Most detections in an image.
        queries: RT-DETR's queries.
        denoising: RT-DETR's noisy copies of the true boxes in training, about twice as many.
        decoder_layers: Layers of RT-DETR's decoder.
        heads: Heads of RT-DETR's attention.
        feed_forward: Units of RT-DETR's feed-forward layers.
        least_side: RT-DETR's images are padded to this side at least, so that they have more places than queries.
    """

    channels: int = 256
    proposal_anchors: Sizes = ((32,), (64,), (128,), (256,), (512,))
    dense_anchors: Sizes = ((32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812))
    dense_strides: tuple[int, ...] = (8, 16, 32, 64, 128)
    fcos_convs: int = 4
    hidden: int = 1024
    mask_layers: tuple[int, ...] = (256, 256, 256, 256)
    mask_pool: int = 14
    anchor_samples: int = 256
    box_samples: int = 512
    before_nms: tuple[int, int] = (2000, 1000)
    after_nms: tuple[int, int] = (2000, 1000)
    score: float = 0.05
    detections: int = 100
    queries: int = 300
    denoising: int = 100
    decoder_layers: int = 6
    heads: int = 8
    feed_forward: int = 1024
    least_side: int = 128


STANDARD = Plan()
"""Torchvision's sizes, which are those of the papers on COCO; RT-DETR's are those of its ResNet-50."""

SMALL = Plan(
    channels=64,
    proposal_anchors=((8, 12), (16, 24), (32, 48), (64, 96)),
    dense_anchors=((12, 15, 19), (24, 30, 38), (48, 60, 76), (96, 121, 152)),
    dense_strides=(4, 8, 16, 32),
    fcos_convs=2,
    hidden=128,
    mask_layers=(64, 64),
    mask_pool=7,
    anchor_samples=64,
    box_samples=32,
    before_nms=(200, 100),
    after_nms=(100, 50),
    score=0.02,
    detections=30,
    queries=30,
    denoising=20,
    decoder_layers=2,
    heads=4,
    feed_forward=128,
    least_side=32,
)
"""For the ``small`` backbone: objects of about 8 to 100 pixels."""


@dataclass(frozen=True)
class Request:
    """What is asked of a detector, beside its name.

    Attributes:
        num_classes: Classes, without the background.
        sizes: Shorter sides in pixels that images are scaled to; in evaluation the last.
        max_size: Longest side of a scaled image in pixels.
        plan: The sizes of its parts.
    """

    num_classes: int
    sizes: tuple[int, ...]
    max_size: int
    plan: Plan

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise InputError(f"num_classes {self.num_classes}: write 1 or more; the background is not counted")
        if not self.sizes or min(self.sizes) < 1:
            raise InputError(f"sizes {self.sizes}: write one or more whole numbers of at least 1, in pixels")
        if self.max_size < max(self.sizes):
            raise InputError(f"max_size {self.max_size}: write at least the largest of sizes, {max(self.sizes)}")
