"""Digits that move over a canvas and bounce off its borders: the physics of Moving-MNIST.

Every digit starts at a place uniform in the free square [0, 1]^2, in which its upper left corner can be without the
digit's leaving the canvas, and moves in a direction uniform on the circle, 0.1 of the square's side in every frame:

    v = 0.1 (cos t, sin t),  t = 2 pi u        p <- p + v

Where a coordinate has come to the border or beyond, it is put on the border and its velocity is mirrored. The first
frame is that after the first step. Pixels are ``floor(p * free)``; where digits overlap, the brighter pixel is seen.

References:
    Nitish Srivastava, Elman Mansimov, Ruslan Salakhutdinov: Unsupervised Learning of Video Representations using
    LSTMs, arXiv 1502.04681, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from switch_ema.data.splits import SPLIT_SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Shares = NDArray[np.float64]

STEP = 0.1
"""Length of a step as a share of the free square's side."""

NUM_DIGITS = 2
"""Digits in a sequence."""

_STREAMS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class Scenes:
    """Which digits move where.

    Attributes:
        digits: Number of each digit, int64 of shape (n, digits).
        corners: Row and column of its upper left pixel in each frame, int64 of shape (n, frames, digits, 2).
    """

    digits: NDArray[np.int64]
    corners: NDArray[np.int64]


def scenes(shares: Shares, num_digits: int, frames: int, free: int) -> Scenes:
    """Work out sequences from random numbers.

    Args:
        shares: Uniform in [0, 1), of shape (n, digits, 4): which digit, row, column, and direction.
        num_digits: How many digits there are to choose from.
        frames: Frames in a sequence.
        free: Side of the free square in pixels: the canvas less the digit, at least 1.

    Returns:
        The scenes.

    Example:
        >>> along = scenes(np.array([[[0.5, 0.98, 0.26, 0.0]]]), 10, 3, free=20)  # to the right, along row 19
        >>> along.digits.tolist(), along.corners[0, :, 0].tolist()
        ([[5]], [[19, 7], [19, 9], [19, 11]])
    """
    angle = 2 * np.pi * shares[..., 3]
    place = shares[..., 1:3].copy()
    velocity = STEP * np.stack([np.sin(angle), np.cos(angle)], -1)
    places = np.empty((len(shares), frames, *place.shape[1:]))
    for frame in range(frames):
        place += velocity
        velocity[(place <= 0) | (place >= 1)] *= -1
        np.clip(place, 0, 1, out=place)
        places[:, frame] = place
    return Scenes((shares[..., 0] * num_digits).astype(np.int64), (places * free).astype(np.int64))


@dataclass(frozen=True)
class Generated:
    """Sequences of digits that move.

    Attributes:
        digits: The digits to choose from, uint8 of shape (digits, side, side); none of them is in another split.
        split: Which of the fixed streams of random numbers is its own.
        count: Number of sequences.
        length: Frames in a sequence.
        size: Side of the canvas in pixels.
    """

    digits: NDArray[np.uint8]
    split: str
    count: int
    length: int
    size: int

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame."""
        return 1, self.size, self.size

    def scenes(self, shares: NDArray[np.float64] | None = None) -> Scenes:
        """Return which digits move where in all of the sequences.

        Args:
            shares: Random numbers of shape (count, 2, 4) in [0, 1); None takes the fixed ones of this split, of which
                the first are the same for every `count`.
        """
        if shares is None:
            shares = np.random.default_rng([SPLIT_SEED, _STREAMS[self.split]]).random((self.count, NUM_DIGITS, 4))
        return scenes(shares, len(self.digits), self.length, self.size - self.digits.shape[1])
