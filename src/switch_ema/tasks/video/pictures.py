"""Pictures of predicted videos: an animation, and a strip of frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from switch_ema.bench.exhibit import Picture

SHOWN = 4
"""Sequences in a picture."""

_GIVEN, _FUTURE, _PAPER = (70, 130, 200), (230, 120, 30), (255, 255, 255)
_BORDER, _GAP = 2, 4  # pixels
_SIDE = 80  # pixels; smaller frames are enlarged towards it by whole numbers
_SECONDS = 0.3


def pictures(past: Tensor, future: Tensor, predicted: Tensor) -> list[Picture]:
    """Show sequences moving and as strips.

    Args:
        past: Given frames, pixels in 0..1, of shape (n, inputs, 1 or 3, height, width).
        future: The frames that follow, of shape (n, outputs, 1 or 3, height, width).
        predicted: The predictions of these, of the same shape.

    Returns:
        ``videos``, an animation of all sequences, one below another: the truth, the prediction, and where they
        differ. ``strips``: every frame of each sequence, the predictions below the truth.

    Example:
        >>> past, future = torch.zeros(1, 2, 1, 16, 16), torch.ones(1, 3, 1, 16, 16)
        >>> [list(picture.frames.shape) for picture in pictures(past, future, future)]
        [[5, 84, 260, 3], [1, 172, 436, 3]]
    """
    enlarged = [_enlarged(frames.detach().float().cpu()) for frames in (past, future, predicted)]
    return [_animation(*enlarged), _strips(*enlarged)]


def _animation(past: Tensor, future: Tensor, predicted: Tensor) -> Picture:
    black = torch.zeros_like(past)
    columns = [
        torch.cat([_framed(past, _GIVEN), _framed(future, _FUTURE)], 1),
        torch.cat([_framed(past, _GIVEN), _framed(predicted, _FUTURE)], 1),
        torch.cat([_framed(black, _GIVEN), _framed((predicted - future).abs(), _FUTURE)], 1),
    ]
    text = (
        "Test sequences: on the left the truth, in the middle the prediction, on the right where they differ. "
        "Blue borders: given frames; orange borders: the future."
    )
    rows = _beside(columns, -2)
    frames = _beside(list(rows), -3)
    return Picture("videos", "Predictions beside the truth", text, frames, _SECONDS)


def _strips(past: Tensor, future: Tensor, predicted: Tensor) -> Picture:
    truth = torch.cat([_framed(past, _GIVEN), _framed(future, _FUTURE)], 1)
    blank = torch.full_like(_framed(past, _PAPER), 255)
    said = torch.cat([blank, _framed(predicted, _FUTURE)], 1)
    rows = [_beside(list(frames), -2) for pair in zip(truth, said, strict=True) for frames in pair]
    text = (
        "Test sequences frame by frame: above the given frames (blue borders) and those that followed (orange), "
        "below the predictions."
    )
    return Picture("strips", "Predictions below the truth, frame by frame", text, _beside(rows, -3)[None])


def _enlarged(frames: Tensor) -> Tensor:
    factor = max(1, _SIDE // max(frames.shape[-2:]))
    return frames.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def _framed(frames: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Turn frames (n, t, channels, h, w) into uint8 pictures with a border, (n, t, h + 4, w + 4, 3)."""
    pixels = (frames.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, -1, 3, -1, -1)
    sides = [_BORDER] * 4
    planes = [pad(pixels[:, :, channel], sides, value=value) for channel, value in enumerate(colour)]
    return torch.stack(planes, -1)


def _beside(parts: list[Tensor], dim: int) -> Tensor:
    """Join pictures along a dimension, -2 side by side or -3 one below another, with a white gap between."""
    shape = list(parts[0].shape)
    shape[dim] = _GAP
    gap = torch.full(shape, 255, dtype=torch.uint8)
    joined = [piece for part in parts for piece in (gap, part)][1:]
    return torch.cat(joined, dim)
