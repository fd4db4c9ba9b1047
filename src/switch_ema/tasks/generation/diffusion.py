"""The diffusion process: noise that is added in training, and taken away step by step in sampling."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from switch_ema.tasks.generation.options import Chosen

_SAMPLING_SEED = 0


class Diffusion:
    """Adds noise to images and takes it away again, by diffusers' schedulers.

    With a_t the product of 1 - beta_s over s = 0 ... t, an image x and standard normal noise e, the noisy image at
    timestep t is

        x_t = sqrt(a_t) x + sqrt(1 - a_t) e

    The network is to say e (``epsilon``) or v = sqrt(a_t) e - sqrt(1 - a_t) x (``v``). With T steps, beta rises from
    0.1 / T to 20 / T (``linear``: for T = 1000 the published 0.0001 to 0.02), or a_t = f((t + 1) / T) / f(0) with
    f(u) = cos^2((u + 0.008) / 1.008 * pi / 2), but beta at most 0.999 (``cosine``).

    Sampling begins with noise at timestep T - 1 and takes evenly spaced steps; the image that each step foresees is
    clipped to [-1, 1]. ``ddim`` adds no noise (eta = 0), ``ddpm`` adds that of the posterior variance.

    Args:
        chosen: The options.

    Example:
        >>> diffusion = Diffusion(Chosen())
        >>> noisy, target = diffusion.noised(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.tensor([999]))
        >>> bool((noisy > 0.99).all()), bool(target.eq(1).all())
        (True, True)

    References:
        Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, arXiv:2006.11239, 2020.
        Song, Meng, Ermon: Denoising Diffusion Implicit Models, arXiv:2010.02502, 2020.
        Nichol, Dhariwal: Improved Denoising Diffusion Probabilistic Models, arXiv:2102.09672, 2021 (cosine).
        Salimans, Ho: Progressive Distillation for Fast Sampling of Diffusion Models, arXiv:2202.00512, 2022 (v).
    """

    def __init__(self, chosen: Chosen) -> None:
        self._predicts_noise = chosen.prediction == "epsilon"
        self._noising = DDPMScheduler(**_settings(chosen))
        self._sampling = (DDIMScheduler if chosen.sampler == "ddim" else DDPMScheduler)(**_settings(chosen))
        self._sampling.set_timesteps(chosen.sampling_steps)

    def noised(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return noisy images, and what the network is to say of them.

        Args:
            images: Floats of shape (n, channels, size, size) in [-1, 1].
            noise: Standard normal noise of the same shape.
            timesteps: int64 of shape (n,), 0 to T - 1.
        """
        noisy: Tensor = self._noising.add_noise(images, noise, timesteps)
        return noisy, noise if self._predicts_noise else self._noising.get_velocity(images, noise, timesteps)

    def sample(self, model: nn.Module, noise: Tensor, at_once: int) -> Tensor:
        """Return what the sampler makes of noise (n, channels, size, size), so many images at once; see `denoise`."""
        generator = torch.Generator().manual_seed(_SAMPLING_SEED)
        last = (deque(self.denoise(model, part, generator), maxlen=1).pop() for part in noise.split(at_once))
        return torch.cat(list(last))

    def denoise(self, model: nn.Module, noise: Tensor, generator: torch.Generator | None = None) -> Iterator[Tensor]:
        """Yield the images after every step of the sampler; the last ones are the samples.

        Args:
            model: Maps noisy images and timesteps to predictions.
            noise: Standard normal noise of shape (n, channels, size, size), where the model is.
            generator: Draws DDPM's noise, on the CPU; by default a new one, so that equal noise gives equal images.

        Returns:
            An iterator over float tensors of the noise's shape; the last one is in [-1, 1] or next to it.
        """
        generator = generator or torch.Generator().manual_seed(_SAMPLING_SEED)
        timesteps = self._sampling.timesteps
        on_device = timesteps.to(noise.device)
        images = noise
        for index, timestep in enumerate(timesteps.tolist()):
            with torch.no_grad():
                predicted = model(images, on_device[index].expand(len(images))).float()
            images = self._sampling.step(predicted, timestep, images, generator=generator, return_dict=False)[0]
            yield images


def _settings(chosen: Chosen) -> dict[str, Any]:
    return {
        "num_train_timesteps": chosen.steps,
        "beta_schedule": {"linear": "linear", "cosine": "squaredcos_cap_v2"}[chosen.noise_schedule],
        "beta_start": 0.1 / chosen.steps,
        "beta_end": 20 / chosen.steps,
        "prediction_type": {"epsilon": "epsilon", "v": "v_prediction"}[chosen.prediction],
        "timestep_spacing": "trailing",
        "clip_sample": True,
    }
