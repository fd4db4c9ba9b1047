"""Video prediction: from the frames that are given, predict those that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from switch_ema.bench.exhibit import Exhibit
from switch_ema.bench.task import WHOLE, Shard, Split, Task
from switch_ema.data.video.videos import load
from switch_ema.tasks.models.names import check_model
from switch_ema.tasks.options import read_options
from switch_ema.tasks.video.batches import Batch, Batches
from switch_ema.tasks.video.metrics import METRICS, measure
from switch_ema.tasks.video.models.build import build_predictor
from switch_ema.tasks.video.models.names import MODELS
from switch_ema.tasks.video.options import OPTIONS, Chosen, check, check_frames
from switch_ema.tasks.video.pictures import SHOWN, pictures

if TYPE_CHECKING:
    from switch_ema.tasks.video.models.base import Predictor

_EVALUATION_BATCH = 32  # sequences; a network may keep the maps of all of its frames


class Video(Task):
    """Predict the frames of a video that follow those that are given.

    With p the predictions of the network for the last k frames of a sequence (those that follow, and for recurrent
    networks in training also given ones) and t the true ones, pixels in 0..1, the loss is

        mean (p - t)^2 + what the network adds of its own (see `switch_ema.tasks.video.models`)

    In training, the network may see true frames that follow (scheduled sampling); in evaluation it never does. The
    metrics are those of OpenSTL (see `switch_ema.tasks.video.metrics.measure`).

    Generated sequences are new ones in every epoch, drawn from the epoch's seed, unless ``fresh`` is false; validation
    and test sequences are always the same, of digits that no training sequence has. Stored clips are cut into sequences
    of inputs + outputs frames that do not overlap (see `switch_ema.data.video.videos.load`).

    Args:
        data: A named data set, a folder of clips or .npy files, or the published test file of Moving-MNIST (see
            `switch_ema.data.video.catalog`).
        model: A network (see `switch_ema.tasks.video.models.names.MODELS`).
        seed: Not used: nothing is drawn that belongs to the problem.
        options: Any of `switch_ema.tasks.video.options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong, or they do not go together.

    Example:
        >>> task = Video(train_size=64)
        >>> past, future = next(task.train_batches(16, seed=0, device=torch.device("cpu")))
        >>> past.shape, future.shape, task.metrics[0].name
        (torch.Size([16, 5, 1, 32, 32]), torch.Size([16, 5, 1, 32, 32]), 'mse')
    """

    name = "video"
    metrics = METRICS

    def __init__(
        self, *, data: str = "moving-digits", model: str = "simvp-gsta", seed: int = 0, **options: Any
    ) -> None:
        check_model(model, MODELS)
        source = check(data, model, options)
        chosen = Chosen(**read_options(OPTIONS, options))
        self.data = data
        self.model = model
        self.inputs, self.outputs = chosen.spans(data)
        videos = load(
            source, self.inputs + self.outputs, frames=chosen.frames, train_size=chosen.train_size,
            test_size=chosen.test_size, image_size=chosen.image_size,
        )  # fmt: skip
        self._shape = videos.train.shape
        _, height, width = self._shape
        check_frames(model, height, width, self.inputs, self.outputs, scalable=not source.is_generated)
        self._size = chosen.network_size(height, width)
        self.num_train = len(videos.train)
        self._batches = Batches(videos, self.inputs, chosen.fresh is not False)

    def build_model(self) -> nn.Module:
        """Make a new network; its weights come from torch's global random generator."""
        channels, height, width = self._shape
        return build_predictor(
            self.model, channels=channels, height=height, width=width, inputs=self.inputs, outputs=self.outputs,
            size=self._size,
        )  # fmt: skip

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled batches; see `switch_ema.tasks.video.batches.Batches.epoch`."""
        return self._batches.epoch(batch_size, seed, device, shard)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean squared error of a batch, and what the network adds."""
        past, future = batch
        predicted = model(past, future).float()
        loss = mse_loss(predicted, torch.cat([past, future], 1)[:, -predicted.shape[1] :])
        extra = cast("Predictor", model).extra_loss(predicted[:, -self.outputs :], future)
        return loss if extra is None else loss + extra

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Tell the network how far training has come, for scheduled sampling."""
        cast("Predictor", model).schedule(progress)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure the errors over every frame of a split that is to be predicted.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            The values of `metrics`; not finite when training has diverged.
        """
        frames: dict[str, list[Tensor]] = {metric.name: [] for metric in self.metrics}
        for past, future in self._batches.held_out(split, _EVALUATION_BATCH, device):
            for name, values in measure(self._predict(model, past), future).items():
                frames[name].append(values)
        means = torch.stack([torch.cat(values).double().mean() for values in frames.values()])
        return dict(zip(frames, means.tolist(), strict=True))  # the only wait for the device

    @torch.no_grad()
    def exhibits(self, model: nn.Module, device: torch.device) -> Sequence[Exhibit]:
        """Show the first test sequences, moving and as a strip of frames, the predictions beside the truth."""
        past, future = next(self._batches.held_out("test", SHOWN, device, count=SHOWN))
        return pictures(past, future, self._predict(model, past))

    def _predict(self, model: nn.Module, past: Tensor) -> Tensor:
        predicted: Tensor = model(past, None)
        return predicted[:, -self.outputs :].float()
