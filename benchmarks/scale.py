"""What averaging costs large models on many GPUs, reckoned from bandwidths: `python -m benchmarks.scale`.

Nothing here is measured on a GPU. With `P` parameters on `N` GPUs (FSDP2), an update reads the weights and the average
and writes the average; a switch reads the average and writes the weights. Neither communicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GIB = 2**30
PARAMETERS = {"7B": 7e9, "70B": 70e9}
GPUS = (8, 64, 256, 1024)
AVERAGE = 4  # bytes of a value of the average: float32
TRAINING = 16  # bytes for each parameter in training: weights, gradients and two moments of Adam in float32


@dataclass(frozen=True)
class Machine:
    """Bandwidths in bytes per second.

    Attributes:
        name: What it is.
        memory: Of the GPU's memory, as its vendor gives it.
        reached: Share of that limit that an update reaches.
        link: From a GPU to its host, one way, as its vendor gives it.
        disk: From a node to the storage.
        gpus: GPUs in a node.
    """

    name: str
    memory: float
    reached: float
    link: float
    disk: float
    gpus: int


H200 = Machine("H200", memory=4.8e12, reached=0.8, link=64e9, disk=2e9, gpus=8)


@dataclass(frozen=True)
class Cost:
    """What one average costs each GPU: bytes and seconds.

    Attributes:
        average: Bytes of its shard of the average.
        training: Bytes of its shard of everything else that training keeps.
        moved: Bytes that an update moves.
        update: Seconds of an update with the average on the GPU.
        switch: Seconds of a switch.
        copy: Seconds in which the weights are copied to the host for an average that is kept there.
        checkpoint: Bytes of a sharded checkpoint in all: weights, moments, average.
        save: Seconds in which all nodes together write it.
    """

    average: float
    training: float
    moved: float
    update: float
    switch: float
    copy: float
    checkpoint: float
    save: float


def cost(parameters: float, gpus: int, machine: Machine, weight: int = 4) -> Cost:
    """Return what one average costs.

    Args:
        parameters: Parameters of the model, in all.
        gpus: GPUs that they are sharded over.
        machine: The bandwidths.
        weight: Bytes of a weight: 4 (float32, also under a mixed-precision policy) or 2 (bfloat16).
    """
    shard = parameters / gpus
    moved = shard * (weight + 2 * AVERAGE)
    bandwidth = machine.memory * machine.reached
    checkpoint = parameters * (weight + 8 + AVERAGE)
    nodes = -(-gpus // machine.gpus)
    return Cost(
        average=shard * AVERAGE,
        training=shard * TRAINING,
        moved=moved,
        update=moved / bandwidth,
        switch=shard * (weight + AVERAGE) / bandwidth,
        copy=shard * weight / machine.link,
        checkpoint=checkpoint,
        save=checkpoint / (nodes * machine.disk),
    )


def table(machine: Machine) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    columns = ("average, GiB", "training, GiB", "moved, GB", "update, ms", "switch, ms", "to host, ms", "save, s")
    yield f"| model | GPUs | {' | '.join(columns)} |"
    yield "|---" * (2 + len(columns)) + "|"
    for name, parameters in PARAMETERS.items():
        for gpus in GPUS:
            c = cost(parameters, gpus, machine)
            sizes = f"{c.average / GIB:.3g} | {c.training / GIB:.3g} | {c.moved / 1e9:.3g}"
            times = " | ".join(f"{float(f'{1e3 * seconds:.2g}'):g}" for seconds in (c.update, c.switch, c.copy))
            yield f"| {name} | {gpus} | {sizes} | {times} | {float(f'{c.save:.2g}'):g} |"


if __name__ == "__main__":
    print(*table(H200), sep="\n")
