"""Regression: predict a number from an image or a vector, with errors in the number's own unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss, l1_loss, mse_loss

from switch_ema.bench.task import WHOLE, Part, Shard, Split, Task
from switch_ema.tasks import regression_metrics
from switch_ema.tasks.models import build_model
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.numbersource import read_numbers
from switch_ema.tasks.options import read_options
from switch_ema.tasks.regression_options import OPTIONS, Chosen, check

Batch = tuple[Tensor, Tensor]
"""Normalised images (n, channels, size, size) or features (n, features), and what the network is to say: (n,) or, of
angles, cosine and sine (n, 2)."""

_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1_loss, "l2": mse_loss, "huber": huber_loss}
_HIDDEN = 64  # units; the known tables have some hundred rows
_EVALUATION_BATCH = 256  # larger ones are slower on a CPU


class Regression(Task):
    """Predict a number from an image or a vector.

    The network's output y stands for the prediction ``target_mean + target_std * y``, or with ``scale_target=False``
    for itself. With d the difference of output and target on the network's scale, the loss is the mean of

        l1: |d|    l2: d^2    huber: d^2 / 2 where |d| < 1, else |d| - 1/2

    With ``angular`` the network has two outputs whose direction is the angle, ``p / (2 pi) * atan2(y2, y1)`` with the
    period p = 360 degrees. Their loss is the same one, against the angle's cosine and sine. The errors that are
    measured wrap around, ``e = (e + p/2) mod p - p/2``: 359 degrees is 1 degree from 0; Pearson's and Spearman's
    correlation mean nothing on a circle and are left out.

    The metrics are in the target's unit. The splits are the same for every seed and every ``train_size`` (see
    `switch_ema.data.numberset.load_numbers`). Inputs are normalised by the mean and standard deviation of each channel
    or feature of the training examples. Augmentation that changes an angle is refused where the target is one.

    Args:
        data: A named data set, a .csv file, or a folder with one (see `switch_ema.data.numbers`).
        model: ``auto`` (``small-resnet`` for images, ``mlp`` for vectors), or a network for images (see
            `switch_ema.tasks.models.build_model`); vectors take ``mlp`` alone, two hidden layers of 64 units.
        seed: Not used: nothing is drawn that belongs to the problem. The angles of turned images are fixed.
        options: Any of `switch_ema.tasks.regression_options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong, or they do not go together.

    Example:
        >>> task = Regression(data="diabetes")
        >>> task.num_train, task.unit, task.metrics[0].name
        (319, 'points', 'mae')
    """

    name = "regression"

    def __init__(self, *, data: str = "digits-rotated", model: str = "auto", seed: int = 0, **options: Any) -> None:
        source = check(data, model, options)
        chosen = Chosen(**read_options(OPTIONS, options))
        self.data = data
        self.model = model if model != "auto" else "mlp" if source.is_table else "small-resnet"
        check_model(self.model)
        found = read_numbers(source, chosen)
        targets = {split: torch.from_numpy(values) for split, values in found.targets.items()}
        self.metrics = regression_metrics.metrics(chosen.angular)
        self.num_train = len(targets["train"])
        self.unit = source.unit
        self.skipped = found.skipped
        self._options = chosen
        self._batches = found.batches
        self._shape = found.channels, found.size
        self._period = source.period if chosen.angular else None
        mean, std = targets["train"].mean().item(), targets["train"].std(correction=0).item()
        self._spread = std or 1.0
        self._center, self._scale = (mean, self._spread) if chosen.scale_target else (0.0, 1.0)
        self._truth = {split: targets[split] for split in ("val", "test")}
        self._wanted = {part: self._on_the_networks_scale(values) for part, values in targets.items()}

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        channels, size = self._shape
        outputs = 1 if self._period is None else 2
        if not size:
            return table_mlp(channels, outputs)
        drop_path, dropout = self._options.drop_path, self._options.dropout
        return build_model(self.model, outputs, channels, size, drop_path=drop_path, dropout=dropout)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled, augmented batches; a last, smaller one is dropped.

        All random numbers are drawn at once on the CPU and for whole batches, so they are the same for every device
        and number of processes; each process takes its slice of every batch.

        Args:
            batch_size: Examples in a batch, over all processes.
            seed: Decides order and augmentation; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        batches = self._batches.epoch(batch_size, seed, device, shard)
        wanted = self._wanted_on(device, "train")
        return ((inputs, wanted[numbers]) for inputs, numbers, _ in batches)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, on the network's scale."""
        inputs, wanted = batch
        outputs = model(inputs).squeeze(1).float()
        return _LOSSES[self._options.loss](outputs, wanted)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure the errors over every example of a split, in the target's unit.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            The values of `metrics` (see `switch_ema.tasks.regression_metrics.measure`); not finite when training has
            diverged, and correlations are nan where all predictions are equal.
        """
        said, places = [], []
        for inputs, place in self._batches.held_out(split, _EVALUATION_BATCH, device):
            said.append(model(inputs).squeeze(1).float())
            places.append(place)
        outputs = torch.cat(said).cpu().double()  # the only wait for the device
        truth = torch.cat([self._truth[split][p if isinstance(p, slice) else p.cpu()] for p in places])
        return regression_metrics.measure(self._predictions(outputs), truth, self._period, self._spread)

    def fixed_batches(self, part: Part, device: torch.device) -> Iterator[Batch]:
        """Yield a part of the data in its own order, not augmented, with targets on the network's scale."""
        wanted = self._wanted_on(device, part)
        for inputs, place in self._batches.held_out(part, _EVALUATION_BATCH, device):
            yield inputs, wanted[place]

    def _wanted_on(self, device: torch.device, part: Part) -> Tensor:
        self._wanted[part] = self._wanted[part].to(device)
        return self._wanted[part]

    def _on_the_networks_scale(self, targets: Tensor) -> Tensor:
        if self._period is None:
            return ((targets - self._center) / self._scale).float()
        radians = targets * (2 * math.pi / self._period)
        return torch.stack([radians.cos(), radians.sin()], 1).float()

    def _predictions(self, outputs: Tensor) -> Tensor:
        """Map outputs, (n,) or (n, 2), to the target's unit, (n,)."""
        if self._period is None:
            return self._center + self._scale * outputs
        return torch.atan2(outputs[:, 1], outputs[:, 0]) * (self._period / (2 * math.pi))


def table_mlp(in_features: int, num_outputs: int = 1) -> nn.Module:
    """Make a network for vectors: two hidden layers of 64 units."""
    return nn.Sequential(
        nn.Linear(in_features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
        nn.Linear(_HIDDEN, num_outputs),
    )  # fmt: skip
