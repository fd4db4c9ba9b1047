"""One GPU kernel that moves the averages of all tensors of a group: each weight and each average is read once.

The kernels are Triton functions. Triton is loaded when the first of them runs, never by importing this module.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from switch_ema.averaging.layout import ALIGNMENT, is_dense

if TYPE_CHECKING:
    import triton.language as tl  # type: ignore[import-untyped]

BLOCK = 4096  # elements per program
_NUM_WARPS = 8
_VALUE_TYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
_AVERAGE_TYPES = {torch.float64, torch.float32, torch.bfloat16}


@final
class FusedPass:
    """One launch over all tensors of a group: their addresses lie in a table on the device.

    The tensors must stay where they are in memory; `is_current` tells whether they do. On a GPU make the pass on the
    stream that it is used on.

    Args:
        values: The model's tensors: on one device, of one floating type, each dense in memory (in any order).
        starts: Where the counterpart of each lies in a flat average, flattened as the tensor lies in memory: multiples
            of 16 (`ALIGNMENT`). What lies between two tensors is never touched.

    Raises:
        ValueError: If a tensor or a start is none of that.

    Example:
        >>> values = [torch.ones(3), torch.ones(2, 2)]
        >>> passed = FusedPass(values, starts=[0, 16])
        >>> passed.is_current(values), passed.is_current([values[0], torch.ones(2, 2)])
        (True, False)
    """

    def __init__(self, values: Sequence[Tensor], starts: Sequence[int]) -> None:
        _check_values(values, starts)
        self._device, self._dtype = values[0].device, values[0].dtype
        self._values = list(values)  # else their memory could become another's
        self._addresses = _addresses(values)
        self._end = max(start + value.numel() for value, start in zip(values, starts, strict=True))
        self._table = _table(values, starts)

    def is_current(self, values: Sequence[Tensor]) -> bool:
        """Return whether the tensors lie where those of the table lay; if not, a new pass is needed."""
        return _addresses(values) == self._addresses

    def lerp_(
        self,
        flats: Sequence[Tensor],
        weights: Tensor,
        *,
        seed: int | Tensor | None = None,
        keep: Tensor | None = None,
    ) -> None:
        """Move each flat average towards the values: `average <- average + weight * (value - average)`.

        Computed in float32, in float64 where the averages are. A value equal to its average leaves it unchanged to the
        last bit; weight 1 copies, exactly. A bfloat16 average is rounded up or down at random, such that the mean is
        right: rounded to nearest, it would stand still at a weight of 0.001. The device is never waited for. In a CUDA
        graph the contents of `weights`, `seed` and `keep` may change between replays; call once before the capture.

        Args:
            flats: The averages, changed in place: flat, of one type (float64, float32 or bfloat16), at least one. Each
                follows the same values with a weight of its own.
            weights: Shares of the value in [0, 1], one for each of `flats`, on the device: float32, or float64 where
                the averages are.
            seed: Number from which, with the place in the average, the random roundings of bfloat16 averages follow;
                another one for each update. As an int64 tensor on the device: one for each of `flats`. Ignored for
                other averages.
            keep: Bool tensor of one element on the device: if false, the averages stay as they are.

        Raises:
            ValueError: If the averages, the weights or the seed are none of that.
        """
        self._check(flats, weights, seed)
        for flat in flats:
            if not flat.is_inference():
                torch.autograd.graph.increment_version(flat)
        if len(self._table) == 0:
            return
        lerp, _ = _kernels()
        constants = _constants(self._dtype, flats[0].dtype)
        seed = seed if flats[0].dtype == torch.bfloat16 else None  # no second kernel for what is ignored
        with torch.cuda.device_of(self._table):
            lerp[(len(self._table),)](self._table, weights, seed, keep, tuple(flats), rows=len(flats), **constants)

    def all_finite(self) -> Tensor:
        """Return, on the device, whether no value is infinite or NaN: a bool tensor of one element, fit for `keep`."""
        finite = torch.ones((), dtype=torch.bool, device=self._device)
        if len(self._table):
            _, check = _kernels()
            with torch.cuda.device_of(self._table):
                check[(len(self._table),)](self._table, finite, **_constants(self._dtype, self._dtype))
        return finite

    def _check(self, flats: Sequence[Tensor], weights: Tensor, seed: int | Tensor | None) -> None:
        dtype = flats[0].dtype if flats else None
        if dtype not in _AVERAGE_TYPES:
            raise ValueError(f"averages are float32, float64 or bfloat16, got {dtype}; pass at least one such tensor")
        for flat in flats:
            if flat.dtype != dtype or flat.device != self._device or flat.dim() != 1 or not flat.is_contiguous():
                raise ValueError(
                    f"averages are flat {dtype} tensors on {self._device}, got {flat.dtype} of shape "
                    f"{tuple(flat.shape)} on {flat.device}; pass views of one flat buffer each"
                )
            if flat.numel() < self._end:
                raise ValueError(f"an average has {flat.numel()} elements; the tensors need {self._end}")
        computed = torch.float64 if dtype == torch.float64 else torch.float32
        if weights.dtype != computed or weights.device != self._device or weights.shape != (len(flats),):
            raise ValueError(
                f"weights must be a {computed} tensor of {len(flats)} elements on {self._device}, got {weights.dtype} "
                f"of shape {tuple(weights.shape)} on {weights.device}"
            )
        if dtype == torch.bfloat16 and seed is None:
            raise ValueError("bfloat16 averages are rounded at random; give a seed, another one for each update")
        if isinstance(seed, Tensor) and (seed.dtype != torch.int64 or seed.shape != (len(flats),)):
            raise ValueError(
                f"seed must be an int64 tensor of {len(flats)} elements, got {seed.dtype} of shape {tuple(seed.shape)}"
            )


def available(device: torch.device) -> bool:
    """Return whether the fused kernels run on a device: a GPU, with Triton and the C compiler that it needs.

    On a CPU they run in Triton's interpreter alone, which is slow and for tests: if the environment says
    `TRITON_INTERPRET=1`.

    Example:
        >>> available(torch.device("meta"))
        False
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != ("cpu" if interpreted else "cuda") or importlib.util.find_spec("triton") is None:
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return interpreted or (compiler is not None and torch.cuda.get_device_capability(device) >= (8, 0))


def fits(value: torch.dtype, average: torch.dtype) -> bool:
    """Return whether the kernels take weights and averages of these types."""
    return value in _VALUE_TYPES and average in _AVERAGE_TYPES


def _addresses(values: Sequence[Tensor]) -> list[int]:
    return [value.data_ptr() for value in values]


def _check_values(values: Sequence[Tensor], starts: Sequence[int]) -> None:
    for i, (value, start) in enumerate(zip(values, starts, strict=True)):
        if value.dtype not in _VALUE_TYPES:
            raise ValueError(f"tensor {i} is {value.dtype}; pass float tensors (torch.view_as_real of complex ones)")
        if value.dtype != values[0].dtype or value.device != values[0].device:
            raise ValueError(
                f"tensor {i} is {value.dtype} on {value.device}, the first {values[0].dtype} on {values[0].device}; "
                "make a pass for each type and device"
            )
        if not is_dense(value):
            raise ValueError(f"tensor {i} of shape {tuple(value.shape)} has gaps in memory; copy it with .contiguous()")
        if start < 0 or start % ALIGNMENT:
            raise ValueError(f"tensor {i} starts at {start}; starts are multiples of {ALIGNMENT}")
    if not values:
        raise ValueError("there are no tensors to average; pass at least one")


def _table(values: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """Return on the device, for every block, its address, its start in a flat average, and its length."""
    with torch.device("cpu"):
        tensors = torch.tensor([[v.data_ptr(), start, v.numel()] for v, start in zip(values, starts, strict=True)])
        counts = (tensors[:, 2] + BLOCK - 1) // BLOCK
        owner = torch.repeat_interleave(counts)
        offset = (torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]) * BLOCK
        table = tensors[owner] + offset[:, None] * torch.tensor([values[0].element_size(), 1, -1])
    table[:, 2].clamp_(max=BLOCK)
    if values[0].is_cuda:  # from pinned memory the copy waits for nothing
        return table.pin_memory().to(values[0].device, non_blocking=True)
    return table


@functools.cache
def _kernels() -> tuple[Any, Any]:
    """Load Triton and hand the functions below to it; they find it, and each other, among this module's globals."""
    import triton
    import triton.language

    globals()["tl"] = triton.language
    for function in (_round_at_random, _lerp_block, _check_block):
        globals()[function.__name__] = triton.jit(function)
    return triton.jit(_lerp_kernel, do_not_specialize=["seed"]), triton.jit(_check_kernel)


def _constants(value: torch.dtype, average: torch.dtype) -> dict[str, Any]:
    """Return what the kernels are compiled for; a thread reads as many values at once as it reads of the average."""
    _kernels()
    align = min(16, 16 * value.itemsize // average.itemsize)
    value_type = getattr(tl, str(value).removeprefix("torch."))
    return {"value_type": value_type, "align": align, "block": BLOCK, "num_warps": _NUM_WARPS}


def _lerp_kernel(
    table: tl.tensor,
    weights: tl.tensor,
    seed: tl.tensor,
    keep: tl.tensor,
    flats: tl.tuple,
    value_type: tl.constexpr,
    align: tl.constexpr,
    block: tl.constexpr,
    rows: tl.constexpr,
) -> None:
    entry = table + 3 * tl.program_id(0).to(tl.int64)
    address, start, length = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    start = start // 16 * 16  # no change, but it lets the compiler read and write 16 bytes at once; so below
    if keep is not None:
        length = tl.where(tl.load(keep) != 0, length, 0)
    if (length == block) & (address % align == 0):
        values = tl.multiple_of((address // align * align).to(tl.pointer_type(value_type)), align)
        _lerp_block(values, start, block, weights, seed, flats, block, rows)
    else:
        values = address.to(tl.pointer_type(value_type))
        _lerp_block(values, start, length, weights, seed, flats, block, rows)


def _lerp_block(
    values: tl.tensor,
    start: tl.tensor,
    length: tl.tensor,
    weights: tl.tensor,
    seed: tl.tensor,
    flats: tl.tuple,
    block: tl.constexpr,
    rows: tl.constexpr,
) -> None:
    offsets = tl.arange(0, block)
    mask = offsets < length
    loaded = tl.load(values + offsets, mask=mask)
    for row in tl.static_range(rows):
        weight = tl.load(weights + row)
        averages = flats[row] + start + offsets
        average = tl.load(averages, mask=mask).to(weight.dtype)
        value = loaded.to(weight.dtype)
        difference = value - average
        moved = tl.where(weight < 0.5, average + weight * difference, value - difference * (1 - weight))
        moved = tl.where(value == average, value, tl.where(weight == 1, value, moved))  # of infinite values too
        if flats[row].dtype.element_ty == tl.bfloat16:
            moved = _round_at_random(moved, seed, start, block, row)
        tl.store(averages, moved, mask=mask)


def _round_at_random(
    x: tl.tensor, seed: tl.tensor, start: tl.tensor, block: tl.constexpr, row: tl.constexpr
) -> tl.tensor:
    """Round float32 to bfloat16, up with the probability that makes the mean right; 8 elements share a Philox call."""
    key = tl.load(seed + row) if seed.dtype.is_ptr() else seed
    a, b, c, d = tl.randint4x(key, start // 8 + tl.arange(0, block // 8))
    words = tl.join(tl.join(a, b), tl.join(c, d))
    noise = tl.reshape(tl.join(words & 0xFFFF, words >> 16), (block,))
    bits = x.to(tl.uint32, bitcast=True)
    rounded = bits + noise
    rounded = tl.where((rounded & 0x7F800000) == 0x7F800000, bits, rounded)  # infinite stays, finite stays finite
    rounded = tl.where(x != x, bits | 0x00400000, rounded)  # NaN: its only bits may be those cut off
    return (rounded >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)


def _check_kernel(
    table: tl.tensor, finite: tl.tensor, value_type: tl.constexpr, align: tl.constexpr, block: tl.constexpr
) -> None:
    entry = table + 3 * tl.program_id(0).to(tl.int64)
    address, length = tl.load(entry), tl.load(entry + 2)
    if (length == block) & (address % align == 0):
        values = tl.multiple_of((address // align * align).to(tl.pointer_type(value_type)), align)
        _check_block(values, block, finite, block)
    else:
        values = address.to(tl.pointer_type(value_type))
        _check_block(values, length, finite, block)


def _check_block(values: tl.tensor, length: tl.tensor, finite: tl.tensor, block: tl.constexpr) -> None:
    offsets = tl.arange(0, block)
    value = tl.load(values + offsets, mask=offsets < length, other=0)
    is_bad = (tl.abs(value) < float("inf")) == 0
    tl.store(finite, False, mask=tl.max(is_bad.to(tl.int32), 0) != 0)
