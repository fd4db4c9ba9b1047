"""Errors of predicted frames, in the convention of OpenSTL's tables."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d

from switch_ema.bench.task import Metric

METRICS = (
    Metric("mse", higher_is_better=False),
    Metric("mae", higher_is_better=False),
    Metric("ssim", higher_is_better=True),
    Metric("psnr", higher_is_better=True),
    Metric("ssim_openstl", higher_is_better=True),
)
"""What `measure` measures."""

_WINDOW = 7
_K1, _K2 = 0.01, 0.03
_LEAST_ERROR = 1e-10  # mean squared error below which a frame counts as 100 dB, not as infinitely good


def measure(predicted: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Compare predicted frames p with true ones t, frame by frame, pixels in 0..1:

        mse = sum (p - t)^2        mae = sum |p - t|        psnr = -10 log10 mean (c - t)^2,  c = p clamped to 0..1

    sums and mean over channels, height and width, and the structural similarity of c and t (see `ssim`): ``ssim`` with
    the data range 1 that pixels have, and ``ssim_openstl`` with 2, which scikit-image took for floats before version
    0.20 and OpenSTL's published tables therefore have; it is the higher one. As there, mse and mae see predictions
    as they are, and each number reported is the mean over all frames of all sequences. A frame without any error
    counts as 100 dB.

    Args:
        predicted: Predictions of shape (n, frames, channels, height, width), sides of at least 7 pixels.
        truth: The true frames, of the same shape.

    Returns:
        A value for each frame, of shape (n, frames), under the names of `METRICS`.

    Example:
        >>> import torch
        >>> got = measure(torch.full((1, 1, 1, 8, 8), 1.5), torch.ones(1, 1, 1, 8, 8))
        >>> {name: round(value.item(), 2) for name, value in got.items()}
        {'mse': 16.0, 'mae': 32.0, 'ssim': 1.0, 'psnr': 100.0, 'ssim_openstl': 1.0}

    References:
        Cheng Tan, Siyuan Li, Zhangyang Gao, Wenfei Guan, Zedong Wang, Zicheng Liu, Lirong Wu, Stan Z. Li: OpenSTL: A
        Comprehensive Benchmark of Spatio-Temporal Predictive Learning, arXiv 2306.11249, 2023.
    """  # noqa: D415
    error = predicted - truth
    clamped = predicted.clamp(0, 1)
    narrow, wide = ssim(clamped, truth, (1.0, 2.0))
    return {
        "mse": error.square().sum((2, 3, 4)),
        "mae": error.abs().sum((2, 3, 4)),
        "ssim": narrow,
        "psnr": -10 * (clamped - truth).square().mean((2, 3, 4)).clamp(min=_LEAST_ERROR).log10(),
        "ssim_openstl": wide,
    }


def ssim(first: Tensor, second: Tensor, data_ranges: tuple[float, ...] = (1.0,)) -> list[Tensor]:
    """Compute the structural similarity of frames, as scikit-image does by default: over uniform windows of 7x7.

    With means m, sample variances v and the sample covariance w of a window, and the data range L,

        (2 m1 m2 + (0.01 L)^2) (2 w + (0.03 L)^2) / ((m1^2 + m2^2 + (0.01 L)^2) (v1 + v2 + (0.03 L)^2))

    averaged over all windows inside the frame, and over the channels.

    Args:
        first: Frames of shape (n, frames, channels, height, width), sides of at least 7 pixels.
        second: Frames of the same shape.
        data_ranges: One or more L, above 0.

    Returns:
        For each of `data_ranges` a tensor of shape (n, frames).

    Example:
        >>> import torch
        >>> frames = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> [round(value.item(), 3) for value in ssim(frames, frames)[0].flatten()]
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    References:
        Zhou Wang, Alan C. Bovik, Hamid R. Sheikh, Eero P. Simoncelli: Image Quality Assessment: From Error Visibility
        to Structural Similarity, IEEE Transactions on Image Processing, 2004.
    """
    x, y = (frames.flatten(0, 1) for frames in (first, second))
    mean_x, mean_y, square_x, square_y, product = (
        avg_pool2d(image, _WINDOW, stride=1) for image in (x, y, x * x, y * y, x * y)
    )
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    variances = sample * (square_x - mean_x**2 + square_y - mean_y**2)
    covariance = sample * (product - mean_x * mean_y)
    values = []
    for data_range in data_ranges:
        c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
        similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
        values.append(similarity.mean((1, 2, 3)).unflatten(0, first.shape[:2]))
    return values
