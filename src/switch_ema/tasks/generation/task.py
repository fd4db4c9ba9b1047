"""Image generation as a task: learn to take noise away, then make images from noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from switch_ema.bench.exhibit import Exhibit
from switch_ema.bench.task import WHOLE, Metric, Shard, Split, Task
from switch_ema.data.pictures import load_pictures
from switch_ema.tasks.augment.crop import ShiftFlip
from switch_ema.tasks.generation.diffusion import Diffusion
from switch_ema.tasks.generation.distances import frechet_distance, kernel_distance
from switch_ema.tasks.generation.features import classifier_features
from switch_ema.tasks.generation.inception import inception_features, missing
from switch_ema.tasks.generation.networks import Denoiser, build_unet
from switch_ema.tasks.generation.options import check, picture_size
from switch_ema.tasks.generation.pictures import as_bytes, denoising_picture, samples_picture
from switch_ema.tasks.generation.unets import check_size
from switch_ema.tasks.images import Augment, ImageBatches

Batch = tuple[Tensor, Tensor, Tensor]
"""Images in [-1, 1] and noise, both (n, channels, size, size), and timesteps (n,)."""

_LEVELS = 8  # noise levels that the held-out loss is measured at
_LOSS_IMAGES = 1000  # held-out images that it is measured on
_SHOWN = 64  # samples in the report
_STAGES = 8  # steps of the sampler in the report, beside the noise
_EVALUATION_BATCH = 256  # larger ones are slower on a CPU
_FIXED_SEED = 0


class Generation(Task):
    """Make images from noise, by denoising diffusion (see `switch_ema.tasks.generation.diffusion.Diffusion`).

    Pixels are scaled to [-1, 1]. In training each image meets noise at a timestep drawn evenly from 0 to steps - 1; the
    loss is the mean squared error of what the network says of it.

    Metrics of a held-out split: ``loss``, the same error at eight evenly spaced timesteps, over at most 1,000 images,
    with the same noise for every model; ``loss_low`` and ``loss_high`` are its halves of little and of much noise.

    After the last epoch `samples` images are made from the same noise for every model, and compared with the test
    images, both as bytes. Where the data have classes, ``feature_distance`` (Fréchet) and ``kernel_distance``
    (polynomial kernel) are taken on the features of a small classifier trained on the same training images (see
    `switch_ema.tasks.generation.features`): they rank models of the same data, but are no FID and no KID. Where
    torch-fidelity and the weights of its Inception network are on the machine, ``fid`` and ``kid`` are measured as
    well, on as many samples; the literature's take 50,000, and fewer raise FID.

    Args:
        data: A named data set or a folder (see `switch_ema.data.pictures`).
        model: One of `switch_ema.tasks.generation.unets.UNETS`.
        seed: Not used: nothing is drawn that belongs to the problem.
        options: Any of `switch_ema.tasks.generation.options.OPTIONS`.

    Raises:
        InputError: An argument or the data are wrong, or the network cannot halve images of this size.

    Example:
        >>> task = Generation(train_size=100, inception="false")
        >>> [metric.name for metric in (*task.metrics, *task.final_metrics)]
        ['loss', 'loss_low', 'loss_high', 'feature_distance', 'kernel_distance']
        >>> batch = next(task.train_batches(32, seed=0, device=torch.device("cpu")))
        >>> round(task.loss(task.build_model(), batch).item())
        1

    References:
        Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239, 2020.
    """

    name = "generation"
    metrics = tuple(Metric(name, higher_is_better=False) for name in ("loss", "loss_low", "loss_high"))

    def __init__(self, *, data: str = "digits", model: str = "unet-small", seed: int = 0, **options: Any) -> None:
        self._source, self._options = check(data, model, options)
        chosen = self._options
        self.data, self.model = data, model
        self._sizes = {
            "train_size": chosen.train_size,
            "image_size": picture_size(self._source, chosen),
            "skip_corrupt": chosen.skip_corrupt,
        }
        found = load_pictures(self._source, **self._sizes)
        self.num_train, size, _, channels = found.train.shape
        self._shape = channels, size, size
        check_size(model, size)
        stored = {split: torch.from_numpy(getattr(found, split)) for split in ("train", "val", "test")}
        flips = chosen.flip == "true" or (chosen.flip == "auto" and channels == 3)
        augment = Augment(ShiftFlip(0) if flips else None)
        self._white = found.white
        self._batches = ImageBatches(stored, [found.white / 2] * channels, [found.white / 2] * channels, augment)
        self._diffusion = Diffusion(chosen)
        self._measures_inception = chosen.inception == "true" or (chosen.inception == "auto" and missing() is None)
        self._labelled = found.labelled
        self._real: dict[str, Tensor] = {}  # features of the test images
        names = ["feature_distance", "kernel_distance"] if found.labelled else []
        names += ["fid", "kid"] if self._measures_inception else []
        self.final_metrics = tuple(Metric(name, higher_is_better=False) for name in names)

    def build_model(self) -> Denoiser:
        """Make a new network; its weights come from torch's global random generator."""
        return build_unet(self.model, *self._shape[:2], self._options.dropout)

    def train_batches(self, batch_size: int, seed: int, device: torch.device, shard: Shard = WHOLE) -> Iterator[Batch]:
        """Yield one epoch of shuffled images with noise and timesteps; a last, smaller batch is dropped.

        All random numbers are drawn on the CPU for whole batches, so they are the same for every device and number of
        processes; each process takes its slice of every batch.

        Args:
            batch_size: Images in a batch, over all processes.
            seed: Decides order, mirroring, timesteps and noise; torch's global random generator is left alone.
            device: Where the batches are made.
            shard: Which slice of every batch to take.

        Returns:
            An iterator over batches.

        Raises:
            InputError: The batch is larger than the training set, or its processes cannot share it equally.
        """
        batches = self._batches.epoch(batch_size, seed, device, shard)
        return self._with_noise(batches, batch_size, seed, device)

    def _with_noise(
        self, batches: Iterator[tuple[Tensor, Tensor, slice]], batch_size: int, seed: int, device: torch.device
    ) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed ^ 1)  # not the one that order and mirroring were drawn from
        timesteps = torch.randint(self._options.steps, (self.num_train,), generator=generator).to(device)
        for images, _, where in batches:
            # from page-locked memory a GPU takes it without a wait
            noise = torch.randn((batch_size, *self._shape), generator=generator, pin_memory=device.type == "cuda")
            first = where.start % batch_size
            yield images, noise[first : first + len(images)].to(device, non_blocking=True), timesteps[where]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean squared error of the model's predictions."""
        noisy, target = self._diffusion.noised(*batch)
        return mse_loss(model(noisy, batch[2]).float(), target)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split, device: torch.device) -> dict[str, float]:
        """Measure the error at fixed noise levels, with the same noise for every model.

        Args:
            model: The network, which the caller has put in evaluation mode.
            split: ``val`` or ``test``.
            device: Where the network is.

        Returns:
            The values of `metrics`; not finite when training has diverged.
        """
        generator = torch.Generator().manual_seed(_FIXED_SEED)
        stored = self._batches.on(device, split)
        chosen = torch.randperm(len(stored), generator=generator)[:_LOSS_IMAGES].to(device)
        images = self._batches.normalised(stored[chosen])
        noise = torch.randn(images.shape, generator=generator).to(device)
        steps = self._options.steps
        levels = [(2 * level + 1) * steps // (2 * _LEVELS) for level in range(_LEVELS)]
        errors = [self._error_at(model, images, noise, timestep) for timestep in levels]
        means = torch.stack(errors).cpu().double() / len(images)  # the only wait for the device
        low, high = means.chunk(2)
        return {"loss": means.mean().item(), "loss_low": low.mean().item(), "loss_high": high.mean().item()}

    def _error_at(self, model: nn.Module, images: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Return the sum over images of the mean squared error at one timestep."""
        total = torch.zeros((), device=images.device)
        for some, its in zip(images.split(_EVALUATION_BATCH), noise.split(_EVALUATION_BATCH), strict=True):
            timesteps = torch.full((len(some),), timestep, device=images.device)
            total += self.loss(model, (some, its, timesteps)) * len(some)
        return total

    @torch.no_grad()
    def evaluate_final(self, model: nn.Module, device: torch.device) -> dict[Split, dict[str, float]]:
        """Make samples and measure how far they are from the test images.

        Args:
            model: The network, which the caller has put in evaluation mode.
            device: Where the network is.

        Returns:
            The values of `final_metrics` on ``test``; nan when the samples are not finite.
        """
        if not self.final_metrics:
            return {}
        samples = self._diffusion.sample(model, self._noise(self._options.samples).to(device), _EVALUATION_BATCH)
        if not samples.isfinite().all():
            return {"test": {metric.name: math.nan for metric in self.final_metrics}}
        made, values = as_bytes(samples, self._white).cpu(), {}
        if self._labelled:
            features = classifier_features(self._source, device=device, **self._sizes)
            ours, theirs = features(made), self._of_test("classifier", features, device)
            values["feature_distance"] = frechet_distance(ours, theirs)
            values["kernel_distance"] = kernel_distance(ours, theirs)
        if self._measures_inception:

            def inception(images: Tensor) -> Tensor:
                return inception_features(images, self._white, device)

            ours, theirs = inception(made), self._of_test("inception", inception, device)
            values["fid"] = frechet_distance(ours, theirs)
            values["kid"] = kernel_distance(ours, theirs)
        return {"test": values}

    def _of_test(self, name: str, features: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
        """Return features of the test images, made once for all methods."""
        if name not in self._real:
            self._real[name] = features(self._batches.on(device, "test").cpu())
        return self._real[name]

    def exhibits(self, model: nn.Module, device: torch.device) -> Sequence[Exhibit]:
        """Return a picture of 64 samples, and one of how the first of them come out of the noise."""
        noise = self._noise(_SHOWN).to(device)
        steps = self._options.sampling_steps
        shown = {round(stage * steps / _STAGES) for stage in range(1, _STAGES + 1)}
        stages = [images for step, images in enumerate(self._diffusion.denoise(model, noise), 1) if step in shown]
        return samples_picture(stages[-1]), denoising_picture([noise, *stages])

    def _noise(self, count: int) -> Tensor:
        """Draw the noise that samples are made from: the same for every model and seed."""
        return torch.randn((count, *self._shape), generator=torch.Generator().manual_seed(_FIXED_SEED))
