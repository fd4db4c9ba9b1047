"""Averaging of checkpoint files: which file counts how much. Imports torch only when the files are read.

Every average is a weighted sum over the sum of the weights, so a mean, an EMA, a merge schedule and the tail of a
cumulative mean differ in their weights alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from switch_ema.averaging.decay import check_decay, from_half_life

DTYPES = ("float64", "float32", "bfloat16", "float16")
RECIPES: dict[str, Callable[[float], float]] = {
    "1-sqrt": lambda t: 1 - math.sqrt(t),
    "linear": lambda t: 1 - t,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}


def average_checkpoints(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    decay: float | None = None,
    half_life: float | None = None,
    recipe: str | None = None,
    tail: tuple[int, int] | Literal["saved"] | None = None,
    last: int | None = None,
    key: str | None = None,
    dtype: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Average checkpoint files into a safetensors file; the plain mean, unless told otherwise.

    Files are read and the average is written a block at a time, so that memory does not grow with the model. Sums are
    in float64 and rounded at the end; values that agree in all files come out bit for bit. Whole numbers and truth
    values are taken from the last file. Parts of names that wrappers put in (compile, DDP, FSDP) are left out where the
    files differ in them, or where all names have one. Tied weights are stored once where they are tied in every file.

    Args:
        inputs: At least two, the oldest first: `.safetensors` files, torch checkpoints (`.pt`, `.pth`, `.bin`,
            `.ckpt`; read without running code from them), indexes of shards, or folders that hold one of these.
        output: The `.safetensors` file to write, whole or not at all.
        weights: One for each file; they are divided by their sum.
        decay: The average is an EMA over the files: the share of the old average kept at each, in [0, 1].
        half_life: The same by the number of files in which a file's share halves.
        recipe: The shape of the learning-rate decay that the average stands in for, after training at a constant
            rate: `"1-sqrt"`, `"linear"` (the plain mean) or `"cosine"`.
        tail: `(a, b)`, if the two files hold the means of everything up to counts a and b: the mean of what came
            after a, up to b. `"saved"` takes the counts from files of `save_averaged` (SWA).
        last: Use only so many of the files, from the end.
        key: Where the weights lie in a torch checkpoint that holds several state dicts, such as `"ema"`.
        dtype: Store floats as `"float64"`, `"float32"`, `"bfloat16"` or `"float16"`; default: as in the files.
        force: Replace an output that is there.

    Returns:
        What the file says about itself: names and weights of the inputs, version, format, checksum.

    Raises:
        ImportError: If the `safetensors` package is missing.
        OSError: If the disk is full or the folder cannot be written; nothing is left behind then.
        ValueError: If a file is missing or damaged, names, shapes or types differ, or an argument makes no sense.

    References:
        Tian et al., "WSM: Decay-Free Learning Rate Schedule via Checkpoint Merging for LLM Pre-training",
        arXiv 2507.17634, 2025 (merge weights of a decay schedule).

    Example:
        >>> average_checkpoints(["a.pt", "b.pt"], "mean.safetensors")  # doctest: +SKIP
    """
    if isinstance(inputs, (str, os.PathLike)):
        raise ValueError(f"inputs is a list of files, got {str(inputs)!r}; write e.g. ['a.pt', 'b.pt']")
    rules = {"weights": weights, "decay": decay, "half_life": half_life, "recipe": recipe, "tail": tail}
    given = [name for name, value in rules.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are different ways to weight the files; choose one of them")
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}; write one of these")
    paths = _last([Path(path) for path in inputs], last)
    _check_paths(paths, Path(output), force)
    shares = None if tail == "saved" else _shares(len(paths), weights, decay, half_life, recipe, tail)
    from switch_ema.averaging.blend import blend  # loads torch, which refusals need not wait for

    return blend(paths, Path(output), lambda abouts: shares or tail_weights(*_saved_counts(paths, abouts)), key, dtype)


def ema_weights(n: int, decay: float) -> list[float]:
    """Return the weight of each of `n` files in an EMA that starts from the first.

    `(1 - decay) * decay ** age`, and `decay ** (n - 1)` for the first.

    Example:
        >>> ema_weights(3, 0.5)
        [0.25, 0.25, 0.5]
    """
    check_decay(decay)
    return [(decay ** (n - 1 - i)) * (1 - decay if i else 1.0) for i in range(n)]


def recipe_weights(n: int, recipe: str) -> list[float]:
    """Return weights that stand in for a learning-rate decay over `n` files: `f(i / n) - f((i + 1) / n)`.

    What was learned between files i-1 and i is in files i to n-1; these weights make it count as the decay `f` would,
    by `f(i / n)`. Equal weights are the linear decay.

    Args:
        n: Number of files.
        recipe: `"1-sqrt"`, `"linear"` or `"cosine"`.

    Raises:
        ValueError: If there is no such recipe.

    Example:
        >>> [round(weight, 3) for weight in recipe_weights(4, "1-sqrt")]
        [0.5, 0.207, 0.159, 0.134]
    """
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; write one of {', '.join(RECIPES)}")
    f = RECIPES[recipe]
    return [f(i / n) - f((i + 1) / n) for i in range(n)]


def tail_weights(a: int, b: int) -> list[float]:
    """Return the relative weights that turn the means up to `a` and `b` into the mean of what came in between.

    `(b * mean_b - a * mean_a) / (b - a)`.

    Raises:
        ValueError: If the counts are not whole numbers with `0 < a < b`.

    Example:
        >>> tail_weights(100, 300)
        [-100.0, 300.0]
    """
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in (a, b)) or not 0 < a < b:
        raise ValueError(
            f"tail is the counts of the two means, the smaller first, got {a!r}, {b!r}; write e.g. 100,300"
        )
    return [-float(a), float(b)]


def _shares(
    n: int,
    weights: Sequence[float] | None,
    decay: float | None,
    half_life: float | None,
    recipe: str | None,
    tail: tuple[int, int] | Literal["saved"] | None,
) -> list[float]:
    if decay is not None:
        return ema_weights(n, decay)
    if half_life is not None:
        return ema_weights(n, from_half_life(half_life))
    if recipe is not None:
        return recipe_weights(n, recipe)
    if tail is not None:
        if n != 2 or isinstance(tail, str) or len(tail) != 2:
            raise ValueError(f"tail needs two counts and two files, got {tail!r} and {n}; write e.g. 100,300")
        return tail_weights(*tail)
    return _scaled(n, [1.0] * n if weights is None else weights)


def _scaled(n: int, weights: Sequence[float]) -> list[float]:
    if len(weights) != n:
        raise ValueError(f"{len(weights)} weights for {n} files; write one for each")
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
            raise ValueError(f"a weight is a number, got {weight!r}; write e.g. 1,2,3")
    exponent = math.frexp(max(map(abs, weights)))[1]
    scaled = [math.ldexp(weight, -exponent) for weight in weights]  # exact, and no sum overflows
    if (total := math.fsum(scaled)) <= 0:
        raise ValueError(
            f"the weights add up to {total * 2.0**exponent:g}, and must add up to more than 0; write e.g. 1,2,3"
        )
    return scaled


def _saved_counts(paths: Sequence[Path], abouts: Sequence[dict[str, Any] | None]) -> tuple[int, int]:
    """Return how many weights are in each of two means, as they say themselves."""
    if len(paths) != 2:
        raise ValueError(f"tail needs two files, got {len(paths)}; name the shorter mean, then the longer one")
    counts = []
    for path, about in zip(paths, abouts, strict=True):
        method, count = (about or {}).get("method"), (about or {}).get("n_averaged")
        if not isinstance(method, dict) or "Uniform()" not in str(method.get("fold")) or not isinstance(count, int):
            raise ValueError(
                f"{path} is no plain mean saved by save_averaged (SWA); write the counts instead of 'saved'"
            )
        counts.append(count)
    return counts[0], counts[1]


def _last(paths: list[Path], last: int | None) -> list[Path]:
    if last is None:
        return paths
    if isinstance(last, bool) or not isinstance(last, int) or not 2 <= last <= len(paths):
        raise ValueError(f"last is how many of the {len(paths)} files are used, at least 2, got {last!r}; write e.g. 2")
    return paths[-last:]


def _check_paths(paths: Sequence[Path], output: Path, force: bool) -> None:
    if len(paths) < 2:
        raise ValueError(f"an average needs at least two files, got {len(paths)}; name more")
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} is not there; name a file that is")
    if output.suffix != ".safetensors":
        raise ValueError(f"the output is a safetensors file, got {str(output)!r}; write a name ending in .safetensors")
    if not output.parent.is_dir():
        raise ValueError(f"the folder {output.parent} is not there; make it first")
    if output.is_dir():
        raise ValueError(f"{output} is a folder; write the name of a file")
    if any(output.resolve() == path.resolve() for path in paths):
        raise ValueError(f"{output} is one of the inputs; write another name for the output")
    if output.exists() and not force:
        raise ValueError(f"{output} is there already; write another name, or force (--force) to replace it")
