"""Rotation, shear and translation of many images, each by its own numbers, in one bilinear sampling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def warp(images: Tensor, degrees: Tensor, shear: Tensor, translation: Tensor, fill: Tensor) -> Tensor:
    """Take pixel p of the result from ``R(degrees) p + (shear_x y, shear_y x) + (translation_x w, translation_y h)``.

    Rotation, counter-clockwise, is about the centre; shear is about the upper left corner, as in Pillow and timm.

    Args:
        images: (n, c, h, w).
        degrees: Angles, (n,).
        shear: Horizontal and vertical shear, (n, 2).
        translation: Shifts to the left and up as shares of width and height, (n, 2).
        fill: What lies outside of the image, (c or 1, 1, 1).

    Returns:
        (n, c, h, w).
    """
    _, _, height, width = images.shape
    angle = torch.deg2rad(degrees)
    cosine, sine = angle.cos(), angle.sin()
    across, down = shear.unbind(1)
    across, down = across * (height / width), down * (width / height)
    x = torch.stack([cosine, across - sine * (height / width), across + 2 * translation[:, 0]], 1)
    y = torch.stack([down + sine * (width / height), cosine, down + 2 * translation[:, 1]], 1)
    grid = affine_grid(torch.stack([x, y], 1), list(images.shape), align_corners=False)
    # sampled around `fill`, zeros beyond the border become it
    return grid_sample(images - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False).add_(fill)
