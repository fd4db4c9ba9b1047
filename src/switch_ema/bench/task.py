"""The task contract: what the bench needs to know of a learning problem, and nothing of methods or training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Split = Literal["val", "test"]


@dataclass(frozen=True)
class Metric:
    """A number measured on a split: its name in the rows, and which way is better; `None` where neither is."""

    name: str
    higher_is_better: bool | None


@dataclass(frozen=True)
class Shard:
    """Which part of every batch a process takes: `rank` of `world_size`."""

    rank: int = 0
    world_size: int = 1


class Task(Protocol):
    """A learning problem: data, model, loss and metrics.

    An instance belongs to one seed: the seed draws what belongs to the problem (such as which labels are wrong),
    never the initial weights or the order of the batches, which the training loop seeds.
    """

    @property
    def name(self) -> str:
        """Name of the task, such as ``classification``."""

    @property
    def data(self) -> str:
        """Name of the data set, such as ``digits``."""

    @property
    def model(self) -> str:
        """Name of the network, such as ``small-resnet``."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What `evaluate` returns; the first one is the headline."""

    @property
    def num_train(self) -> int:
        """Number of training examples."""

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = Shard()) -> Iterator[Any]:
        """Yield one epoch: `num_train // batch_size` shuffled, augmented batches that depend on `seed` alone."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch, a scalar; it calls `model` once."""

    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure every metric on a held-out split; the caller has put the model in evaluation mode."""
