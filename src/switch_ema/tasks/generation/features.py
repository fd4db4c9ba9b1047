"""Features of images by a classifier of the same data, trained when it is first needed.

It is our own small ResNet, not the Inception network: distances on its features are no FID, and no number of any paper.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from switch_ema.data.catalog import Source
from switch_ema.data.images import load
from switch_ema.tasks.classification import Classification
from switch_ema.tasks.images import ImageBatches

Features = Callable[[Tensor], Tensor]
"""Maps images, uint8 (n, size, size, channels), to features, float64 (n, 64), on the CPU."""

_EPOCHS = 8
_MOST_STEPS = 2000
_BATCH = 64
_EVALUATION_BATCH = 256  # larger ones are slower on a CPU
_LR = 2e-3


@lru_cache(maxsize=2)
def classifier_features(
    source: Source, train_size: int | None, image_size: int | None, skip_corrupt: bool, device: torch.device
) -> Features:
    """Train a small ResNet to name the classes of the training images, and return what gives its last features.

    Eight epochs, at most 2,000 steps, of AdamW at 0.002 with a cosine. Its random numbers are its own: the same
    arguments give the same classifier, and torch's global random generators are left alone. A process trains it once.

    Args:
        source: Where the labelled images are.
        train_size: Number of training images; None takes all.
        image_size: Side to scale and crop the images to; None keeps them.
        skip_corrupt: Leave out images that cannot be read.
        device: Where to train and to compute.

    Returns:
        A function of images.

    Raises:
        InputError: The data are wrong.
    """
    task = Classification(
        data=source.name, train_size=train_size, image_size=image_size, skip_corrupt=skip_corrupt, stream="false"
    )
    found = load(source, train_size=train_size, image_size=image_size, skip_corrupt=skip_corrupt)
    prepare = ImageBatches({}, found.mean, found.std).normalised
    network = cast(nn.Sequential, _trained(task, device))[:-1]  # without the last layer, which names classes

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            parts = [network(prepare(part.to(device))) for part in images.split(_EVALUATION_BATCH)]
        return torch.cat(parts).cpu().double()

    return features


def _trained(task: Classification, device: torch.device) -> nn.Module:
    exact = torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        exact,
    ):
        torch.manual_seed(0)
        model = task.build_model().to(device).train()
        batch_size = min(_BATCH, task.num_train)
        steps = min(_EPOCHS * (task.num_train // batch_size), _MOST_STEPS)
        optimizer = torch.optim.AdamW(model.parameters(), _LR)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        batches = (batch for epoch in range(_EPOCHS) for batch in task.train_batches(batch_size, epoch, device))
        for batch in islice(batches, steps):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
            schedule.step()
    return model.eval()
