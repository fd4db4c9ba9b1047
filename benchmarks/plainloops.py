"""What people write without us for other tasks than classification: a loop of torch round the library's network.

The examples lie in memory, decoded, as tensors: for an image of uint8 a script would have to do more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.optim import Adam, AdamW
from torch.utils.data import DataLoader

from switch_ema.bench.settings import Settings

Batch = Any
_OPTIMIZERS = {"adam": Adam, "adamw": AdamW}


@dataclass(frozen=True)
class Script:
    """What a script has of its own, beside the loop.

    Attributes:
        library: What it is written with.
        loss: Maps a network and a batch of the loader to the loss.
        examples: Takes our batch of all training examples apart.
        collate: Makes a batch of examples; None stacks them.
    """

    library: str
    loss: Callable[[nn.Module, Batch], Tensor]
    examples: Callable[[Batch], Sequence[Any]] = lambda batch: list(zip(*batch, strict=True))
    collate: Callable[[list[Any]], Batch] | None = None


class Loop:
    """The loop: batches to the device, loss, backward, clipping, step.

    Args:
        model: The network, on the device.
        batches: The loader.
        loss: Maps the network and a batch to the loss.
        settings: Optimizer, its rates, and clipping.
        device: Where it trains.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: DataLoader[Any],
        loss: Callable[[nn.Module, Batch], Tensor],
        settings: Settings,
        device: torch.device,
    ) -> None:
        self._model, self._batches, self._loss, self._device = model, batches, loss, device
        self._parameters = list(model.parameters())
        self._clip_norm = settings.clip_norm
        make = _OPTIMIZERS[settings.optimizer]
        self._optimizer = make(self._parameters, settings.lr[0], weight_decay=settings.weight_decay)

    def train_epoch(self) -> float:
        """Train one epoch and return its mean loss; only this waits for the device."""
        self._model.train()
        losses: list[Tensor] = []
        for batch in self._batches:
            loss = self._loss(self._model, move_data_to_device(batch, self._device))
            self._optimizer.zero_grad()
            loss.backward()
            if self._clip_norm is not None:
                clip_grad_norm_(self._parameters, self._clip_norm)
            self._optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())


def _detected(model: nn.Module, batch: list[tuple[Tensor, Mapping[str, Tensor]]]) -> Tensor:
    images, targets = map(list, zip(*batch, strict=True))
    losses: Mapping[str, Tensor] = model(images, targets)
    return torch.stack(list(losses.values())).sum()


@cache
def _scheduler() -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000)


def _denoised(model: nn.Module, batch: list[Tensor]) -> Tensor:
    (images,) = batch
    noise = torch.randn_like(images)
    timesteps = torch.randint(_scheduler().config.num_train_timesteps, (len(images),), device=images.device)
    return mse_loss(model(_scheduler().add_noise(images, noise, timesteps), timesteps), noise)


def _images(batch: tuple[Tensor, Tensor, Tensor]) -> list[tuple[Tensor]]:
    return [(image,) for image in batch[0].contiguous()]


def _foreseen(model: nn.Module, batch: list[Tensor]) -> Tensor:
    past, future = batch
    predicted = model(past, future)
    only_future = predicted.shape == future.shape
    return mse_loss(predicted, future if only_future else torch.cat([past[:, 1:], future], 1))


def _told(model: nn.Module, batch: list[Tensor]) -> Tensor:
    losses: Tensor = model(*batch)
    return losses.mean()


def _classified(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    loss: Tensor = model(**batch).loss
    return loss


def _texts(batch: tuple[Tensor, Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(tokens[mask.bool()], label) for tokens, mask, label in zip(*batch, strict=True)]


def _padded(examples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    texts = [text for text, _ in examples]
    tokens = pad_sequence(texts, batch_first=True)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return {"input_ids": tokens, "attention_mask": mask, "labels": torch.stack([label for _, label in examples])}


SCRIPTS: Mapping[str, Script] = {
    "detection": Script("torchvision", _detected, collate=list),
    "segmentation": Script("torchvision", _detected, collate=list),
    "generation": Script("diffusers", _denoised, _images),
    "video": Script("torch", _foreseen),
    "language": Script("torch", _told),
    "textclass": Script("transformers", _classified, _texts, _padded),
}
"""The scripts by our task."""
