"""What holds for every augmentation: random numbers belong to the sample, and images stay images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from switch_ema.errors import InputError
from switch_ema.tasks.augment.base import Augmentation, Chain, ToFloat, cut
from switch_ema.tasks.augment.colour import Blur, ColourJitter, Flip, Greyscale, Solarize
from switch_ema.tasks.augment.crop import ResizedCrop, ShiftFlip
from switch_ema.tasks.augment.erasing import RandomErasing
from switch_ema.tasks.augment.mixing import CutMix, Mixup, MixupOrCutMix, soft_targets
from switch_ema.tasks.augment.randaugment import RandAugment
from switch_ema.tasks.augment.views import byol_views, moco_v2_view, simclr_view

from .sample import applied, floats, generator, stored

CPU = torch.device("cpu")
ON_BYTES: dict[str, Augmentation] = {
    "shift-flip": ShiftFlip(3),
    "shift-zero": ShiftFlip(3, mode="zero"),
    "resized": ResizedCrop(20),
    "resized-bicubic": ResizedCrop(20, interpolation="bicubic"),
    "simclr": simclr_view(20),
    "simclr-no-blur": simclr_view(20, strength=0.5, blur=False),
    "moco": moco_v2_view(20),
    "byol-first": byol_views(20)[0],
    "byol-second": byol_views(20)[1],
    "classification": Chain((ShiftFlip(2), ToFloat(), RandAugment(), RandomErasing(value=0.5))),
}
ON_FLOATS: dict[str, Augmentation] = {
    "jitter": ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0.8),
    "grey": Greyscale(0.3),
    "blur": Blur(probability=0.5),
    "solarize": Solarize(0.5, probability=0.3),
    "flip": Flip(),
    "randaugment": RandAugment(),
    "randaugment-timm": RandAugment(magnitude=9, ops="timm", probability=1.0, num_ops=3),
    "randaugment-increasing": RandAugment(magnitude=9, ops="timm-increasing", fill=(0.4, 0.5, 0.6), probability=1.0),
    "erasing": RandomErasing(0.5, value=0.0),
    "erasing-noise": RandomErasing(0.5, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
}
EVERY = {**ON_BYTES, **ON_FLOATS}


def images_for(name: str, count: int) -> Tensor:
    return stored(count) if name in ON_BYTES else floats(count)


@pytest.mark.parametrize("name", EVERY)
def test_the_numbers_come_from_the_generator_alone(name: str) -> None:
    augment, images = EVERY[name], images_for(name, 16)
    state = torch.get_rng_state()
    first, draws = applied(augment, images)
    again, _ = applied(augment, images)
    other, _ = applied(augment, images, seed=1)
    assert first.equal(again)
    assert not first.equal(other)
    assert torch.get_rng_state().equal(state)
    assert all(len(numbers) == 16 and numbers.device == CPU for numbers in draws)


@pytest.mark.parametrize("name", EVERY)
def test_samples_differ_and_the_input_is_left_alone(name: str) -> None:
    images = images_for(name, 1).expand(48, -1, -1, -1)
    before = images.clone()
    got, _ = applied(EVERY[name], images)
    assert len(got.flatten(1).unique(dim=0)) > 1
    assert images.equal(before)


@pytest.mark.parametrize("name", EVERY)
def test_a_part_of_the_draws_is_a_part_of_the_result(name: str) -> None:
    augment, images = EVERY[name], images_for(name, 32)
    whole, draws = applied(augment, images)
    halves = [augment(images[part], cut(draws, part, CPU)) for part in (slice(0, 16), slice(16, 32))]
    torch.testing.assert_close(torch.cat(halves), whole)  # matrix products may differ in their last bit
    # and an epoch's draws serve batch by batch
    assert all(numbers.equal(other[:16]) for numbers, other in zip(cut(draws, slice(16), CPU), draws, strict=True))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_stay_images(name: str, channels: int) -> None:
    if channels == 1 and name in ("randaugment-increasing", "erasing-noise"):
        pytest.skip("three values for three channels")
    images = stored(32, channels=channels) if name in ON_BYTES else floats(32, channels=channels)
    got, _ = applied(EVERY[name], images)
    if name.startswith("shift"):
        assert got.dtype == torch.uint8
        assert got.shape == images.shape
    else:
        side = 32 if name in ON_FLOATS or name == "classification" else 20
        assert got.dtype == torch.float32
        assert got.shape == (32, channels, side, side)
        assert got.isfinite().all()
        if name != "erasing-noise":
            assert got.min() >= 0
            assert got.max() <= 1


@pytest.mark.parametrize("height", [8, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_and_oblong_images(height: int, channels: int) -> None:
    for name, augment in ON_FLOATS.items():
        if channels == 3 or name not in ("randaugment-increasing", "erasing-noise"):
            images = floats(24, height, 8, channels)
            assert applied(augment, images)[0].shape == images.shape
    for view in (simclr_view(8), *byol_views(8), moco_v2_view(8)):
        assert applied(view, stored(24, height, 8, channels))[0].shape == (24, channels, 8, 8)


@pytest.mark.parametrize(
    "augment",
    [
        ColourJitter(0.8, 0.8, 0.8, 0.2, probability=0),
        ColourJitter(),
        Greyscale(0),
        Blur(probability=0),
        Solarize(0, probability=0),
        Flip(0),
        RandAugment(probability=0),
        RandomErasing(0),
        RandomErasing(0, value=0.0),
        Chain(()),
    ],
    ids=lambda augment: str(augment)[:40],
)
def test_probability_zero_changes_nothing(augment: Augmentation) -> None:
    images = floats(16)
    assert applied(augment, images)[0].equal(images)


def test_nothing_to_shift_changes_nothing() -> None:
    images = stored(8)
    assert applied(ShiftFlip(0, flip=False), images)[0].equal(images)
    whole = ResizedCrop(32, scale=(1, 1), ratio=(1, 1), flip=False)
    torch.testing.assert_close(applied(whole, images)[0], ToFloat()(images, ()))


def test_a_chain_is_its_steps_one_after_the_other() -> None:
    steps = (ResizedCrop(16), ToFloatAgain(), ColourJitter(0.4, 0.4, 0.4, 0.1), Flip())
    images, drawn = stored(8), generator()
    expected = images
    for step in steps:
        expected = step(expected, step.draw(8, drawn))
    assert applied(Chain(steps), images)[0].equal(expected)
    nested = Chain((Chain(steps[:2]), Chain(steps[2:])))
    assert applied(nested, images)[0].equal(expected)


class ToFloatAgain:
    """A user's own step, which draws nothing."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return ()

    def __call__(self, images: Tensor, draws: tuple[Tensor, ...]) -> Tensor:
        assert draws == ()
        return images


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ShiftFlip(-1), "ShiftFlip: padding -1: write 0 or more"),
        (lambda: ShiftFlip(4, mode="reflekt"), "did you mean 'reflect'"),  # type: ignore[arg-type]
        (lambda: ResizedCrop(0), "ResizedCrop: size 0"),
        (lambda: ResizedCrop(8, scale=(0.5, 0.1)), r"scale \(0.5, 0.1\): write \(smallest, largest\)"),
        (lambda: ResizedCrop(8, scale=(0.1, 1.5)), "scale .* above 0, up to 1"),
        (lambda: ResizedCrop(8, ratio=(0, 1)), "ratio .* above 0"),
        (lambda: ResizedCrop(8, interpolation="cubic"), "did you mean 'bicubic'"),  # type: ignore[arg-type]
        (lambda: ColourJitter(-0.1), "ColourJitter: brightness -0.1: write a number of at least 0"),
        (lambda: ColourJitter(hue=0.6), "hue 0.6: write a number from 0 to 0.5"),
        (lambda: ColourJitter(probability=1.1), "probability 1.1: write a number from 0 to 1"),
        (lambda: Greyscale(float("nan")), "Greyscale: probability nan"),
        (lambda: Blur((0, 1)), "Blur: sigma"),
        (lambda: Blur(kernel_size=4), "kernel_size 4: write an odd number"),
        (lambda: Solarize(2), "Solarize: threshold 2"),
        (lambda: Flip(-1), "Flip: probability -1"),
        (lambda: RandAugment(num_ops=0), "num_ops 0"),
        (lambda: RandAugment(ops="fixmatsch"), "did you mean 'fixmatch'"),
        (lambda: RandAugment(magnitude=11), "magnitude 11: write a number from 0 to 10"),
        (lambda: RandAugment(magnitude_std=-1), "magnitude_std -1"),
        (lambda: RandAugment(fill=(0, 0, 128)), "fill 128"),
        (lambda: RandomErasing(value="random"), "value 'random': write 'noise' or a number"),
        (lambda: RandomErasing(scale=(0, 0.3)), "RandomErasing: scale"),
        (lambda: Mixup(0), "Mixup: alpha 0: write a number above 0"),
        (lambda: CutMix(float("inf")), "CutMix: alpha inf"),
        (lambda: MixupOrCutMix(switch_probability=2), "switch_probability 2"),
        (lambda: soft_targets(torch.arange(2), 2, smoothing=1.5), "smoothing 1.5"),
        (lambda: soft_targets(torch.arange(2), 0), "num_classes 0"),
        (lambda: simclr_view(8, strength=3), "strength 3"),
        (lambda: ShiftFlip(8)(stored(2, 8, 8), ShiftFlip(8).draw(2, generator())), "8 x 8: write at most 7"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", EVERY)
def test_the_same_on_a_gpu(name: str) -> None:
    augment, images = EVERY[name], images_for(name, 32)
    here, draws = applied(augment, images)
    cuda = torch.device("cuda")
    there = augment(images.to(cuda), cut(draws, slice(None), cuda))
    assert there.is_cuda
    # equalize and posterize may round a value that lies between two bytes the other way
    close = (there.cpu().float() - here.float()).abs() < 1e-3
    assert close.float().mean() > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", sorted(set(EVERY) - {"classification"} - {n for n in EVERY if "randaugment" in n}))
def test_nothing_waits_for_the_gpu(name: str) -> None:
    augment, cuda = EVERY[name], torch.device("cuda")
    images = images_for(name, 32).to(cuda)
    draws = cut(augment.draw(32, generator()), slice(None), cuda)
    augment(images, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augment(images, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
