"""A picture of what a network says of every place in the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from switch_ema.bench.exhibit import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from switch_ema.data.points import Points

_SIDE = 360  # pixels of the longer side
_FINE = 2  # drawn so many times as large, then made smaller, so that points are round
_MARGIN = 0.1  # of the longer side, around the held-out points
_RADIUS = 5  # pixels
_COLOURS = np.array([[0, 114, 178], [213, 94, 0]])  # blue and orange, for those who see no red or green as well
_DEEPEST = 0.6  # share of a class's colour where the network is certain of it
_INK, _PAPER = (0, 0, 0), (255, 255, 255)

TEXT = (
    "Background: the probability of the blue and the orange class, white where both are equally likely; the black line "
    "is the border between them. Points: the labelled training points of the first seed; those with a cross have a "
    "wrong label."
)


def region_picture(
    model: nn.Module, device: torch.device, extent: NDArray[np.float64], train: Points, labels: NDArray[np.int64]
) -> Picture:
    """Draw the regions of a network with the training points.

    Args:
        model: Maps float32 (n, 2) to logits (n, 2), in evaluation mode.
        device: Where it is.
        extent: Points that are to be in the picture, (n, 2).
        train: The training points with their true classes.
        labels: The classes that were trained on, (n,).

    Returns:
        One frame whose longer side is 360 pixels; a step to the right is as long as one up.
    """
    low, high = extent.min(0), extent.max(0)
    margin = _MARGIN * (high - low).max()
    low, high = low - margin, high + margin
    step = (high - low).max() / _SIDE
    width, height = np.rint((high - low) / step).astype(int).tolist()
    xs = low[0] + step * (torch.arange(width) + 0.5)
    ys = high[1] - step * (torch.arange(height) + 0.5)  # the first row is the upmost
    places = torch.cartesian_prod(ys, xs).flip(1).float().to(device)
    second = model(places).float().softmax(1)[:, 1].view(height, width).cpu()
    image = Image.fromarray(_background(second).numpy())
    image = image.resize((_FINE * width, _FINE * height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    centres = (train.inputs - [low[0], high[1]]) * [1, -1] / step * _FINE
    for (x, y), true, given in zip(centres.tolist(), train.labels, labels, strict=True):
        _draw_point(draw, x, y, tuple(_COLOURS[given].tolist()), wrong=bool(true != given))
    frame = np.array(image.resize((width, height), Image.Resampling.LANCZOS))
    return Picture("regions", "Regions of the classes", TEXT, torch.from_numpy(frame)[None])


def _background(second: Tensor) -> Tensor:
    """Return pixels (h, w, 3) for the probability of the second class (h, w); nan, of a diverged one, is white."""
    certainty = (2 * second.nan_to_num(0.5) - 1)[..., None]
    colour = torch.where(certainty > 0, torch.from_numpy(_COLOURS[1]), torch.from_numpy(_COLOURS[0]))
    pixels = 255 + _DEEPEST * certainty.abs() * (colour - 255)
    named = second > 0.5
    border = torch.zeros_like(named)
    border[:-1] |= named[:-1] != named[1:]
    border[:, :-1] |= named[:, :-1] != named[:, 1:]
    pixels[border] = 0
    return pixels.round().byte()


def _draw_point(draw: ImageDraw.ImageDraw, x: float, y: float, colour: tuple[int, ...], *, wrong: bool) -> None:
    size = _FINE * _RADIUS
    draw.ellipse((x - size, y - size, x + size, y + size), fill=colour, outline=_PAPER, width=_FINE)
    if wrong:
        arm = size / 2
        draw.line((x - arm, y - arm, x + arm, y + arm), fill=_PAPER, width=_FINE)
        draw.line((x - arm, y + arm, x + arm, y - arm), fill=_PAPER, width=_FINE)
