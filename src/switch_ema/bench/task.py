"""The task contract: what the bench needs to know of a learning problem, and nothing of methods or training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from switch_ema.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from switch_ema.bench.exhibit import Exhibit

Split = Literal["val", "test"]
SPLITS: tuple[Split, ...] = ("val", "test")
"""What is held out."""

Part = Literal["train", "val", "test"]
"""What a data set is divided into."""


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


WHOLE = Shard()
"""The whole batch, for one process."""


@runtime_checkable
class Task(Protocol):
    """A learning problem: data, model, loss and metrics.

    An instance belongs to one seed: the seed draws what belongs to the problem (such as which labels are wrong),
    never the initial weights or the order of the batches, which the training loop seeds. A class that inherits from
    this one need not write the methods from `averaged_part` on: most problems have no use for them.

    Attributes:
        name: Name of the task, such as ``classification``.
        data: Name of the data set, such as ``digits``.
        model: Name of the network, such as ``small-resnet``.
        metrics: What `evaluate` returns; the first one is the headline.
        final_metrics: What `evaluate_final` returns.
        training_metrics: What `evaluate_training` returns.
        num_train: Number of training examples.
    """

    name: str
    data: str
    model: str
    metrics: tuple[Metric, ...]
    final_metrics: tuple[Metric, ...] = ()
    training_metrics: tuple[Metric, ...] = ()
    num_train: int

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""

    @abstractmethod
    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Any]:
        """Yield one epoch: `num_train // batch_size` shuffled, augmented batches that depend on `seed` alone.

        Each process gets its own part of every batch, of `batch_size / shard.world_size` examples.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch, a scalar; it calls `model` once."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure every metric on a held-out split; the caller has put the model in evaluation mode."""

    def averaged_part(self, model: nn.Module) -> nn.Module:
        """Return the part of the model that is trained by the optimizer and averaged: the whole, unless told."""
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Do what the task owes its own parts after an optimizer step, such as moving a target network.

        Args:
            model: The model, unwrapped.
            progress: Completed steps as a share of all, above 0 up to 1.
        """
        return

    def evaluate_final(self, model: nn.Module, device: torch.device) -> dict[Split, dict[str, float]]:
        """Measure what is too costly for every epoch, such as a linear probe, once after the last one."""
        return {}

    def evaluate_training(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Measure every one of `training_metrics` on the training examples, as often as `evaluate` is called."""
        return {}

    def fixed_batches(self, part: Part, device: torch.device) -> Iterator[Any]:
        """Yield a part of the data in its own order, not augmented, in batches that `loss` takes.

        Where the problem has inputs and targets they are pairs of these. Analyses of a trained model need them.

        Raises:
            InputError: The task has no such batches.
        """
        raise InputError(f"task {self.name} has no batches that stay the same, so its models cannot be analysed")

    def exhibits(self, model: nn.Module, device: torch.device) -> Sequence[Exhibit]:
        """Return what the report shows of a trained model, such as samples; for every method from the same input.

        It is called after the last epoch of the first seed, with the model in evaluation mode.
        """
        return ()
