"""How much memory work on many points at once may take."""

from __future__ import annotations

import torch

_CUDA_SHARE = 8  # one part in so many of the device's memory


def affordable(size: int, device: torch.device, cpu_bytes: int = 2**28) -> int:
    """Return how many things of a size in bytes may be worked on at once, at least 1.

    Args:
        size: Bytes that one takes.
        device: Where they lie; on a GPU an eighth of its memory may be taken.
        cpu_bytes: What may be taken on a CPU.
    """
    budget = cpu_bytes
    if device.type == "cuda":
        budget = torch.cuda.get_device_properties(device).total_memory // _CUDA_SHARE
    return max(1, budget // max(1, size))
