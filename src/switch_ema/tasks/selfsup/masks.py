"""Which patches of an image a masked method hides: always the same number, drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from switch_ema.errors import FieldError


def num_masked(num_patches: int, ratio: float) -> int:
    """Return how many of an image's patches are hidden: the rounded share, but at least one, and never all.

    Args:
        num_patches: Patches of an image, at least 2.
        ratio: Share to hide, 0 to 1.

    Example:
        >>> num_masked(16, 0.75), num_masked(16, 0.6), num_masked(4, 1.0)
        (12, 10, 3)
    """
    return min(max(round(num_patches * ratio), 1), num_patches - 1)


def draw_masks(count: int, grid: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Draw the hidden patches of some images, each set equally likely.

    Args:
        count: Number of images, n.
        grid: Patches on a side of an image.
        ratio: Share to hide, 0 to 1 (see `num_masked`).
        generator: A generator on the CPU.

    Returns:
        Bool of shape (n, grid, grid), true where hidden, on the CPU.

    Example:
        >>> draw_masks(2, 4, 0.75, torch.Generator().manual_seed(0)).sum((1, 2)).tolist()
        [12, 12]
    """
    order = torch.rand(count, grid**2, generator=generator).argsort(1)
    return (order < num_masked(grid**2, ratio)).view(count, grid, grid)


def mask_patch(image_size: int, patch: int) -> int:
    """Return the side of the patches to hide where none is named.

    It is the largest multiple of the network's patch that divides the image and is at most a seventh of its side, as
    32 of 224 in SimMIM; where there is none, the smallest from 2 pixels on.

    Args:
        image_size: Side of the images in pixels.
        patch: Side of the network's patches in pixels, 1 for a network without.

    Example:
        >>> mask_patch(224, 16), mask_patch(32, 4), mask_patch(32, 1), mask_patch(8, 1)
        (32, 4, 4, 2)
    """
    sides = _sides(image_size, patch)
    return max((side for side in sides if side <= image_size / 7), default=min(sides, default=patch))


def check_patch(image_size: int, patch: int, network_patch: int) -> None:
    """Refuse patches to hide that do not tile the image, twice or more.

    Raises:
        FieldError: The side is no multiple of the network's patch, or the image no multiple of it.
    """
    if image_size % patch or image_size < 2 * patch or patch % network_patch:
        sides = _sides(image_size, network_patch)
        write = f"write {' or '.join(map(str, sides))}" if sides else "take another --image-size or model"
        raise FieldError("mask_patch", f"{patch}: does not tile images of {image_size}x{image_size} pixels; {write}")


def _sides(image_size: int, patch: int) -> list[int]:
    """List the sides from 2 pixels on, of multiples of a patch, that tile an image twice or more."""
    return [side for side in range(patch, image_size // 2 + 1, patch) if side > 1 and image_size % side == 0]


def to_size(masks: Tensor, height: int, width: int) -> Tensor:
    """Return masks on another grid.

    Args:
        masks: Bool of shape (n, grid, grid).
        height: Cells in a column of the new grid.
        width: Cells in a row of the new grid.

    Returns:
        Float of shape (n, 1, height, width): the share of each cell that is hidden.
    """
    return interpolate(masks[:, None].float(), (height, width), mode="area")
