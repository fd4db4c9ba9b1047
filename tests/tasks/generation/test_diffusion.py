"""The diffusion process follows its formulas; the sampler gives back the distribution that its model knows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.tasks.generation.diffusion import Diffusion
from switch_ema.tasks.generation.options import Chosen

MEAN, SPREAD = 0.1, 0.25  # of a normal distribution of pixels that clipping does not touch


def products(schedule: str, steps: int) -> Tensor:
    """Return a_t of every timestep from the published formulas, float64."""
    if schedule == "linear":
        return (1 - torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)).cumprod(0)
    f = [math.cos((step / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(steps + 1)]
    return torch.tensor([max(f[t + 1] / f[t], 0.001) for t in range(steps)], dtype=torch.float64).cumprod(0)


class Oracle(nn.Module):
    """Says what is best to say of noisy pixels that come from a normal distribution."""

    def __init__(self, chosen: Chosen) -> None:
        super().__init__()
        self.predicts_noise = chosen.prediction == "epsilon"
        self.products = products(chosen.noise_schedule, chosen.steps)

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        a = self.products[timesteps][:, None, None, None]
        noise = (1 - a).sqrt() * (noisy - a.sqrt() * MEAN) / (a * SPREAD**2 + 1 - a)
        if self.predicts_noise:
            return noise
        return (noise - (1 - a).sqrt() * noisy) / a.sqrt()  # v, from x = (noisy - sqrt(1 - a) e) / sqrt(a)


@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_follow_their_formulas(schedule: str, steps: int) -> None:
    one, none = torch.ones(steps, 1, 1, 1), torch.zeros(steps, 1, 1, 1)
    diffusion = Diffusion(Chosen(steps=steps, noise_schedule=schedule))
    want = products(schedule, steps)
    signal, _ = diffusion.noised(one, none, torch.arange(steps))
    noise, _ = diffusion.noised(none, one, torch.arange(steps))
    torch.testing.assert_close(signal.flatten().square().double(), want, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(noise.flatten().square().double(), 1 - want, rtol=1e-4, atol=1e-6)
    if (schedule, steps) == ("linear", 1000):
        assert 1 - want[0].item() == pytest.approx(1e-4)
        assert 1 - (want[-1] / want[-2]).item() == pytest.approx(0.02)


def test_both_predictions_hold_the_same_image() -> None:
    generator = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 1000, 1, 2, 2, generator=generator)
    timesteps = torch.arange(1000)
    a = products("cosine", 1000)[:, None, None, None].float()
    noisy, said = Diffusion(Chosen(noise_schedule="cosine")).noised(images, noise, timesteps)
    same, velocity = Diffusion(Chosen(noise_schedule="cosine", prediction="v")).noised(images, noise, timesteps)
    assert noisy.equal(same)
    torch.testing.assert_close(said, noise)
    torch.testing.assert_close(a.sqrt() * noisy - (1 - a).sqrt() * velocity, images, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((1 - a).sqrt() * noisy + a.sqrt() * velocity, noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_ddim_follows_its_formula(prediction: str) -> None:
    chosen = Chosen(prediction=prediction, sampling_steps=20)
    start = torch.randn(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    stages = list(Diffusion(chosen).denoise(Oracle(chosen), start))
    oracle, images = Oracle(Chosen()), start.double()
    for stage, timestep in zip(stages, range(999, 0, -50), strict=True):
        a = oracle.products[timestep]
        before = oracle.products[timestep - 50] if timestep > 50 else torch.ones(())
        noise = oracle(images, torch.full((50,), timestep))
        image = ((images - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-1, 1)
        images = before.sqrt() * image + (1 - before).sqrt() * noise
        torch.testing.assert_close(stage.double(), images, rtol=1e-3, atol=1e-3)
    assert Diffusion(chosen).sample(Oracle(chosen), start, len(start)).equal(stages[-1])


def spread_of_samples(chosen: Chosen) -> float:
    """Follow the standard deviation through the published steps of the sampler, which are affine for the oracle."""
    a_of, every = products(chosen.noise_schedule, chosen.steps), chosen.steps // chosen.sampling_steps
    variance = 1.0
    for timestep in range(chosen.steps - 1, -1, -every):
        a = a_of[timestep].item()
        before = a_of[timestep - every].item() if timestep >= every else 1.0
        image = SPREAD**2 * math.sqrt(a) / (a * SPREAD**2 + 1 - a)  # what of x_t is in the image foreseen
        if chosen.sampler == "ddim":
            kept = math.sqrt(before) * image + math.sqrt((1 - before) / (1 - a)) * (1 - math.sqrt(a) * image)
            variance *= kept**2
        else:
            alpha = a / before
            kept = (math.sqrt(before) * (1 - alpha) * image + math.sqrt(alpha) * (1 - before)) / (1 - a)
            variance = kept**2 * variance + (1 - before) / (1 - a) * (1 - alpha)
    return math.sqrt(variance)


@pytest.mark.parametrize("others", [{}, {"noise_schedule": "cosine", "prediction": "v"}])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_have_the_distribution_that_the_model_knows(sampler: str, others: dict[str, Any]) -> None:
    chosen = Chosen(sampler=sampler, sampling_steps=50, **others)
    noise = torch.randn(10_000, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    samples = Diffusion(chosen).sample(Oracle(chosen), noise, len(noise))
    assert torch.get_rng_state().equal(state)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(spread_of_samples(chosen), rel=0.025)
    assert Diffusion(chosen).sample(Oracle(chosen), noise, len(noise)).equal(samples)
    related = torch.corrcoef(torch.stack([samples.flatten(), noise.flatten()]))[0, 1]
    assert (related > 0.99) == (sampler == "ddim")
    exact = spread_of_samples(Chosen(sampler=sampler, sampling_steps=1000, **others))
    assert exact == pytest.approx(SPREAD, rel=0.03)


def test_ddpm_draws_other_noise_for_the_next_images() -> None:
    chosen = Chosen(steps=50, sampling_steps=5, sampler="ddpm")
    start = torch.zeros(4, 1, 2, 2)
    samples = Diffusion(chosen).sample(Oracle(chosen), start, at_once=2)
    assert not samples[:2].equal(samples[2:])
    assert samples.equal(Diffusion(chosen).sample(Oracle(chosen), start, at_once=2))
