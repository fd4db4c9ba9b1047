"""Images of the classification task that are changed before they are normalised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from switch_ema.tasks.classification import Classification

CPU = torch.device("cpu")


def joined(task: Classification, change: object = None) -> Tensor:
    batches = task.changed_batches("test", CPU, change) if callable(change) else task.fixed_batches("test", CPU)
    return torch.cat([images for images, _ in batches])


def test_unchanged_images_are_those_of_fixed_batches() -> None:
    task = Classification()
    torch.testing.assert_close(joined(task, lambda images: images), joined(task))
    labels = [torch.cat([true for _, true in batches]) for batches in (
        task.changed_batches("test", CPU, torch.zeros_like), task.fixed_batches("test", CPU))]  # fmt: skip
    assert labels[0].equal(labels[1])


def test_white_is_the_brightest_pixel_of_digits() -> None:
    seen: list[Tensor] = []

    def keep(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    joined(Classification(), keep)
    found = torch.cat(seen)
    assert found.amin() == 0
    assert found.amax() == 1
    torch.testing.assert_close(found * 16, (found * 16).round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_colours_are_changed_before_they_are_normalised(tmp_path: Path, stream: str) -> None:
    generator = np.random.default_rng(0)
    for row in range(40):
        folder = tmp_path / str(row % 2)
        folder.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
        pixels[0, 0] = 255
        Image.fromarray(pixels).save(folder / f"{row}.png")
    task = Classification(data=str(tmp_path), stream=stream, image_size=16, workers=0)
    torch.testing.assert_close(joined(task, lambda images: images), joined(task), atol=1e-5, rtol=1e-5)
    inverted = joined(task, lambda images: 1 - images)
    middle = joined(task, lambda images: torch.full_like(images, 0.5))
    torch.testing.assert_close((inverted + joined(task)) / 2, middle, atol=1e-5, rtol=1e-5)
