"""Networks give logits of the right shape, or one line that says which image size they need."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from switch_ema.errors import InputError
from switch_ema.tasks.models import build_model


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 28), (3, 32)])
@pytest.mark.parametrize("name", ["small-resnet", "mlp", "timm/resnet18"])
def test_logits(name: str, channels: int, size: int) -> None:
    model = build_model(name, 7, channels, size)
    assert model.training
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)


def test_a_model_with_a_fixed_size_is_made_for_the_images() -> None:
    model = build_model("timm/vit_tiny_patch16_224.augreg_in21k", 5, 1, 32)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_small_resnet_is_as_described() -> None:
    model = build_model("small-resnet", 10, 1, 8)
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [16, 16, 16, 32, 32, 32, 64, 64, 64]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 9


def test_mlp_is_as_described() -> None:
    model = build_model("mlp", 10, 3, 8)
    layers = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert layers == [(192, 256), (256, 256), (256, 10)]


@pytest.mark.parametrize("name", ["small-resnet", "mlp", "timm/resnet18"])
def test_weights_come_from_the_global_generator(name: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = build_model(name, 4, 1, 8)
        return torch.cat([*(p.detach().flatten() for p in model.parameters()), torch.rand(1)])

    assert weights(0).equal(weights(0))
    assert not weights(0).equal(weights(1))


def test_the_trial_leaves_no_trace_in_a_timm_model() -> None:
    model = build_model("timm/resnet18", 4, 1, 8)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.num_batches_tracked == 0
        assert norm.running_mean is not None
        assert not norm.running_mean.any()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/levit_128s"])
def test_images_too_small(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} cannot take 1x8x8 images; try --image-size 32") as caught:
        build_model(name, 4, 1, 8)
    assert "\n" not in str(caught.value)
    build_model(name, 4, 1, 32)


def test_unknown_model() -> None:
    with pytest.raises(InputError, match="write timm/resnet18"):
        build_model("resnet18", 4, 1, 8)
