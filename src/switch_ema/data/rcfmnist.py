"""RCF-MNIST: Fashion-MNIST turned by a multiple of six degrees and painted white on CIFAR-10; the angle is the target.

As in the code of arXiv:2402.09240: image i is padded to 32 pixels, turned (nearest neighbour) by a degree drawn from
0, 6, ..., 354, and its pixels above 2 become white on CIFAR-10's image i modulo their number. There the degrees are
drawn anew in every process; here they are fixed, so that training and test images never change.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from switch_ema.data import cifar, idx, parquet
from switch_ema.data.numbertable import NumberTable
from switch_ema.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from switch_ema.data.table import Table

_SIZE = 32
_THRESHOLD = 2
_STEP = 6  # degrees
_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
_KINDS = {  # title and where torchvision puts the files, or where they may lie directly
    "rcf-mnist": ("Fashion-MNIST", ("fashion-mnist", "fashion-mnist/FashionMNIST", "FashionMNIST")),
    "rc-mnist": ("MNIST", ("mnist", "MNIST")),
}


def locate(name: str, root: str) -> tuple[str, str]:
    """Find the two sets that the images are made of.

    Args:
        name: ``rcf-mnist``, or ``rc-mnist`` for handwritten digits in the place of clothes.
        root: The folder that holds both.

    Returns:
        The folder with the IDX files, and the one with CIFAR-10's parquet files.

    Raises:
        InputError: One of them is not there, or a file is empty, truncated or of the wrong kind.
    """
    title, places = _KINDS[name]
    front = next((path for place in places if idx.found(path := os.path.join(root, place))), None)
    if front is None:
        instead = "rc-mnist, made of MNIST" if name == "rcf-mnist" else "digits-rotated"
        raise InputError(
            f"data set {name!r} not found: no {title} in {os.path.join(root, places[0])}: it needs {_FILES}, plain or "
            f".gz, there or in raw/; set SEMA_DATA to the folder that holds {places[0]}/, or write --data {instead}"
        )
    idx.check(front)
    back = os.path.join(root, "cifar10")
    if _kind(back) is None:
        raise InputError(
            f"data set {name!r} not found: no CIFAR-10, its background, in {back}: it needs train.parquet and "
            f"test.parquet, or cifar-10-batches-py/; set SEMA_DATA to the folder that holds cifar10/, or write "
            f"--data digits-rotated"
        )
    (cifar if _kind(back) == "cifar" else parquet).check(back)
    return front, back


def tables(front: str, back: str, image_size: int | None) -> dict[str, NumberTable]:
    """Draw the degrees of all images; the images are made when they are read.

    Args:
        front: Folder of the IDX files.
        back: Folder of CIFAR-10.
        image_size: Side to scale the images to; None keeps 32.

    Returns:
        The tables ``train`` and ``test``; their targets are degrees, counter-clockwise.
    """
    import numpy as np

    from switch_ema.data.splits import SPLIT_SEED

    clothes = idx.tables(front, None)
    photographs = (cifar if _kind(back) == "cifar" else parquet).tables(back, _SIZE)
    made = {}
    for number, split in enumerate(("train", "test")):
        generator = np.random.default_rng([SPLIT_SEED, 2, number])
        degrees = _STEP * generator.integers(360 // _STEP, size=len(clothes[split].labels)).astype(np.float64)
        made[split] = NumberTable(degrees, partial(_read, clothes[split], photographs[split], degrees, image_size))
    return made


def _kind(back: str) -> str | None:
    """Name the format of CIFAR-10's folder; None where it is not there."""
    if not os.path.isdir(back):
        return None
    return "parquet" if parquet.found(back) else "cifar" if cifar.found(back) else None


def _read(
    clothes: Table,
    photographs: Table,
    degrees: NDArray[np.float64],
    image_size: int | None,
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    import numpy as np
    from PIL import Image

    from switch_ema.data.decode import resize

    needed, place = np.unique(rows % len(photographs.labels), return_inverse=True)
    ground = np.broadcast_to(photographs.read(needed), (len(needed), _SIZE, _SIZE, 3))[place]  # a copy for each row
    front = clothes.read(rows)[..., 0]
    height, width = front.shape[1:]
    if max(height, width) > _SIZE:
        raise InputError(f"{clothes.where}: images of {width}x{height} pixels; they must fit into {_SIZE}x{_SIZE}")
    corner = ((_SIZE - width) // 2, (_SIZE - height) // 2)
    for image, figure, degree in zip(ground, front, degrees[rows].tolist(), strict=True):
        canvas = Image.new("L", (_SIZE, _SIZE))
        canvas.paste(Image.fromarray(figure), corner)
        image[np.asarray(canvas.rotate(degree)) > _THRESHOLD] = 255
    return resize(ground, image_size), np.ones(len(rows), np.bool_)
