"""Processes that train one model together: how they are started, what they cannot do, and what they do in step.

Lightning starts those of one machine. Those of several are started by torchrun: an agent on each machine, which says by
environment variables how many there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from switch_ema.bench.integrity import read_sealed
from switch_ema.errors import FieldError, InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from switch_ema.bench.results import Store
    from switch_ema.bench.settings import Settings

_T = TypeVar("_T")
FSDP2 = "fsdp2"
_PATIENCE_SECONDS = 60.0  # file systems of several machines show new files late


def num_nodes() -> int:
    """Return the number of machines: the agents of torchrun, or 1 without it."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) if _by_torchrun() else 1


def check_processes(settings: Settings) -> None:
    """Refuse what the processes that were started, or a model in parts, cannot do. Loads no torch.

    Args:
        settings: What is asked.

    Raises:
        FieldError: A value does not fit.
    """
    started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if _by_torchrun() and started != settings.devices:
        raise FieldError(
            "devices",
            f"{settings.devices}: torchrun has started {started} on this machine; write --devices {started}, or "
            f"--nproc-per-node {settings.devices} for torchrun",
        )
    if settings.strategy == FSDP2:
        _check_sharded(settings)


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _check_sharded(settings: Settings) -> None:
    finetuning = settings.task_options.get("finetune_epochs")
    unfit: list[tuple[str, Any, Any, str]] = [
        ("accelerator", settings.accelerator, settings.accelerator == "mps", "write cpu or cuda"),
        ("precision", settings.precision, settings.precision == "16-mixed", "write bf16-mixed or 32-true"),
        ("optimizer", settings.optimizer, settings.optimizer == "schedulefree", "write sgd or adamw"),
        ("keep_weights", settings.keep_weights, settings.keep_weights != "none", "write none"),
        ("finetune_epochs", finetuning, finetuning, "write 0"),
    ]
    for field, value, refused, cure in unfit:
        if refused:
            raise FieldError(field, f"{value}: not with a model in parts (--strategy {FSDP2}); {cure}")


def in_step(fabric: Fabric, work: Callable[[], _T]) -> list[_T]:
    """Do something on every process, and return what it came to on each; all wait for the last.

    Args:
        fabric: The processes.
        work: What to do; it communicates with no other process.

    Raises:
        InputError: It was raised on one of them; it is raised on all then.
        OSError: Likewise.
    """
    if fabric.world_size == 1:
        return [work()]
    import torch.distributed as dist

    own: tuple[_T | None, Exception | None]
    try:
        own = work(), None
    except (InputError, OSError) as error:
        own = None, error
    outcomes: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(outcomes, own)
    for _, failure in outcomes:
        if failure is not None:
            raise failure
    return [result for result, _ in outcomes]


def on_first(fabric: Fabric, work: Callable[[], _T]) -> _T:
    """Do something on the first process, and return on all what it came to, or raise what it raised; see `in_step`."""
    return cast(_T, in_step(fabric, lambda: work() if fabric.is_global_zero else None)[0])


def check_shared(fabric: Fabric, store: Store) -> None:
    """See that all processes look into the folder that the first one writes.

    Args:
        fabric: The processes.
        store: The run folder, in which the first process has begun.

    Raises:
        InputError: Another process sees another one, or none.
    """
    if fabric.world_size == 1:
        return
    first = fabric.broadcast(read_sealed(store.run_path) if fabric.is_global_zero else None)
    seen = in_step(fabric, lambda: _comes(store, first))
    if not all(seen):
        raise InputError(
            f"--out {store.folder} is not the same folder on all machines (process {seen.index(False)} does not see "
            "what the first one has written); name one that they share"
        )


def _comes(store: Store, content: Any) -> bool:
    """Return whether run.json has a content within some time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            if read_sealed(store.run_path) == content:
                return True
        except (OSError, ValueError):
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
