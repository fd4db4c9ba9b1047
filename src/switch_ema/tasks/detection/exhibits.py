"""Pictures of what a detector finds, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import nms
from torchvision.utils import draw_segmentation_masks

from switch_ema.bench.exhibit import Picture

if TYPE_CHECKING:
    from switch_ema.data.detection.scenes import Objects, Scenes

PICTURES = 4
"""How many images are shown."""

SURE = 0.3
"""From which score on a detection is shown."""

_SAME_PLACE = 0.5  # intersection over union
_SIDE = 384  # pixels of the longer side
_TRUTH, _FOUND = (0, 158, 227), (240, 120, 0)
_OPACITY = 0.45
_TEXT, _LINE = 14, 18  # pixels: of letters, and of a label


def shown(scenes: Scenes) -> list[int]:
    """Return which images are shown: the first that have an object which is no crowd."""
    numbers = (number for number in range(len(scenes)) if not scenes.objects[number].crowd.all())
    return [number for number, _ in zip(numbers, range(PICTURES), strict=False)]


def picture(place: int, image: Tensor, truth: Objects, found: dict[str, Tensor], names: Sequence[str]) -> Picture:
    """Draw what was found over the truth.

    Args:
        place: Which of the pictures it is, from 0.
        image: Values from 0 to 1, (3, h, w).
        truth: The objects in the image; crowds are not drawn.
        found: What the detector returned: boxes (n, 4), scores (n,), labels (n,) from 1, perhaps masks,
            bool (n, 1, h, w).
        names: Name of each class.

    Returns:
        One frame whose longer side is 384 pixels, or, for an image of up to 192, the whole multiple nearest to it.
    """
    height, width = image.shape[1:]
    sure = _surest(found)
    own = torch.from_numpy(truth.boxes)[torch.from_numpy(~truth.crowd)]
    real = [names[label] for label in truth.labels[~truth.crowd]]
    labels, scores = (found["labels"][sure].tolist(), found["scores"][sure].tolist())
    said = [f"{names[label - 1]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    scale = _SIDE / max(height, width)
    if scale >= 2:
        scale = float(round(scale))  # its pixels are seen then, so all should be of one size
    size = round(height * scale), round(width * scale)
    canvas = _resized((image * 255).round().byte(), size)
    if "masks" in found:
        bitmaps = torch.from_numpy(truth.bitmaps(height, width)[~truth.crowd])
        canvas = _filled(canvas, bitmaps.bool(), _TRUTH)
        canvas = _filled(canvas, found["masks"][sure, 0], _FOUND)
    canvas = _framed(canvas, own * scale, real, _TRUTH, below=True)
    canvas = _framed(canvas, found["boxes"][sure] * scale, said, _FOUND, below=False)
    what = "boxes and masks" if "masks" in found else "boxes"
    return Picture(
        name=f"scene-{place + 1}",
        title=f"Test image {place + 1}",
        text=f"Orange: the {what} that were found with a score of {SURE} or more, of several at one place the surest. "
        "Blue: the truth.",
        frames=canvas.permute(1, 2, 0)[None].contiguous(),
    )


def _surest(found: dict[str, Tensor]) -> Tensor:
    """Return which detections are shown: detectors name several classes for one object, one upon the other."""
    kept: Tensor = nms(found["boxes"], found["scores"], _SAME_PLACE)
    return kept[found["scores"][kept] >= SURE]


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale bytes (channels, h, w): to whole multiples by repeating pixels, otherwise by interpolating."""
    whole = size[0] % image.shape[1] == size[1] % image.shape[2] == 0
    mode = {"mode": "nearest"} if whole else {"mode": "bilinear", "antialias": True}
    return interpolate(image[None].float(), size, **mode)[0].round().byte()


def _filled(canvas: Tensor, masks: Tensor, colour: tuple[int, int, int]) -> Tensor:
    if not masks.numel():
        return canvas
    large = _resized(masks.byte(), (canvas.shape[1], canvas.shape[2])).bool()
    filled: Tensor = draw_segmentation_masks(canvas, large.any(0), alpha=_OPACITY, colors=colour)
    return filled


def _framed(canvas: Tensor, boxes: Tensor, labels: list[str], colour: tuple[int, int, int], below: bool) -> Tensor:
    """Draw boxes, with their labels below or above."""
    image = Image.fromarray(canvas.permute(1, 2, 0).numpy())
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_TEXT)
    for (left, top, right, bottom), label in zip(boxes.tolist(), labels, strict=True):
        place = min(bottom, image.height - _LINE) if below else max(top - _LINE, 0)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        draw.text((left + 1, place), label, fill=colour, font=font, stroke_width=1, stroke_fill="black")
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)
