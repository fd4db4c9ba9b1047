"""Pictures show the truth and the predictions where they say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from switch_ema.tasks.video.pictures import pictures

BLUE, ORANGE, WHITE = [70, 130, 200], [230, 120, 30], [255, 255, 255]


def cell(picture: Tensor, row: int, column: int, size: int = 84) -> Tensor:
    """Return one framed picture of a grid."""
    top, left = row * (size + 4), column * (size + 4)
    return picture[top : top + size, left : left + size]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "side"), [(16, 84), (32, 68), (100, 104)])
def test_everything_stands_in_its_place(channels: int, size: int, side: int) -> None:
    level = torch.arange(2 * 5).view(2, 5, 1, 1, 1) / 10
    truth = level.expand(2, 5, channels, size, size)
    said = truth[:, 2:] + 0.05
    videos, strips = pictures(truth[:, :2], truth[:, 2:], said)
    assert videos.frames.dtype == strips.frames.dtype == torch.uint8
    assert videos.frames.shape == (5, 2 * side + 4, 3 * side + 8, 3)
    assert strips.frames.shape == (1, 4 * side + 12, 5 * side + 16, 3)
    for sequence in range(2):
        for time in range(5):
            grey = round(255 * level[sequence, time].item())
            predicted = grey if time < 2 else round(255 * (level[sequence, time].item() + 0.05))
            border = BLUE if time < 2 else ORANGE
            for column, value in enumerate((grey, predicted, 0 if time < 2 else 13)):
                shown = cell(videos.frames[time], sequence, column, side)
                assert (shown[2:-2, 2:-2].int() - value).abs().max() <= 1
                assert shown[0].unique(dim=0).tolist() == shown[:, -1].unique(dim=0).tolist() == [border]
            above, below = (cell(strips.frames[0], 2 * sequence + row, time, side) for row in (0, 1))
            assert (above[2:-2, 2:-2].int() - grey).abs().max() <= 1
            assert above[0, 0].tolist() == border
            assert below[0, 0].tolist() == (WHITE if time < 2 else ORANGE)
            assert (below[2:-2, 2:-2].int() - (255 if time < 2 else predicted)).abs().max() <= 1


def test_diverged_predictions_are_shown_as_well() -> None:
    past = torch.zeros(1, 1, 1, 8, 8)
    said = torch.tensor([math.nan, math.inf, -math.inf, 1e9]).repeat(16).view(1, 1, 1, 8, 8)
    videos, _ = pictures(past, past, said)
    assert videos.frames.shape[0] == 2
