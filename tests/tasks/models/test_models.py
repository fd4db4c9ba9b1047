"""Networks are those of the papers, give outputs of the right shape, or say in one line what they need."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from switch_ema.errors import InputError
from switch_ema.tasks.models import build_backbone, build_model
from switch_ema.tasks.models.build import _made
from switch_ema.tasks.models.names import MODELS
from switch_ema.tasks.models.request import Request

SMALL = ["small-resnet", "mlp", "wrn-10-1", "vit-t", "timm/resnet18"]  # quick to make
NAMED = [name for name in MODELS if name not in ("wrn-D-K", "timm/NAME")]
# name, classes, image size, parameters
PUBLISHED = [
    # github.com/kuangliu/pytorch-cifar, ten classes, 3x3 stem
    ("resnet18", 10, 32, 11_173_962),
    ("resnet34", 10, 32, 21_282_122),
    ("resnet50", 10, 32, 23_520_842),
    ("resnet101", 10, 32, 42_512_970),
    ("densenet121", 10, 32, 6_956_298 + 2 * 64),  # there the stem has no BatchNorm
    # torchvision's 25,028,904, with a stem of 3x3 for 7x7 and 10 classes for 1000
    ("resnext50", 10, 32, 25_028_904 - 64 * 3 * (49 - 9) - 990 * 2049),
    # arXiv:1605.07146, table 4: 36.5M and 2.2M
    ("wrn-28-10", 10, 32, 36_479_194),
    ("wrn-40-2", 10, 32, 2_243_546),
    # torchvision's features of VGG-16 (138,357,544 less its classifier), then 512-512-512-100
    ("vgg16", 100, 32, 14_714_688 + 2 * (512 * 512 + 512) + 512 * 100 + 100),
    # torchvision's, with a stem of 1x1 for 4x4
    ("convnext-t", 1000, 32, 28_589_128 - 96 * 3 * 15),
    ("convnext-s", 1000, 32, 50_223_688 - 96 * 3 * 15),
    # papers: 5.7M, 22.1M (DeiT), 28.3M (Swin-T), 18.5M (Mixer-S/16); to the last one as timm has them
    ("deit-t", 1000, 224, 5_717_416),
    ("deit-s", 1000, 224, 22_050_664),
    ("vit-t", 1000, 224, 5_717_416),
    ("vit-s", 1000, 224, 22_050_664),
    ("swin-t", 1000, 224, 28_288_354),
    ("mixer-s", 1000, 224, 18_528_264),
]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "classes", "size", "parameters"), PUBLISHED)
def test_parameters_are_as_published(name: str, classes: int, size: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(_made(Request(name, classes, 3, size))) == parameters


def test_every_name_is_counted() -> None:
    assert {name for name, *_ in PUBLISHED} >= set(NAMED) - {"small-resnet", "mlp"}


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32)])
@pytest.mark.parametrize("name", SMALL)
def test_outputs(name: str, channels: int, size: int) -> None:
    model = build_model(name, 7, channels, size)
    assert model.training
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", ["mlp", "resnet18", "wrn-10-1", "vgg16", "vit-t", "mixer-s"])
def test_every_weight_takes_part(name: str) -> None:
    size = 32 if name == "vgg16" else 8
    with torch.device("meta"):
        model = _made(Request(name, 3, 1, size))
        outputs = model(torch.zeros(2, 1, size, size))
        features = _made(Request(name, 0, 1, size))(torch.zeros(2, 1, size, size))
    outputs.sum().backward()
    assert outputs.shape == (2, 3)
    assert features.ndim == 2
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet18", (512, 4, 4)), ("densenet121", (1024, 4, 4)), ("convnext-t", (768, 4, 4)), ("swin-t", (2, 2, 768))],
)
def test_last_map_of_32_pixels(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model: Any = _made(Request(name, 10, 3, 32))
        assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape[1:] == shape


@pytest.mark.parametrize("size", [32, 33, 64])
def test_last_map_of_a_wide_resnet_is_a_quarter(size: int) -> None:
    model = build_model("wrn-16-2", 10, 3, size)
    assert isinstance(model, nn.Sequential)
    blocks = model[:7].eval()
    assert blocks(torch.zeros(1, 3, size, size)).shape == (1, 128, -(-size // 4), -(-size // 4))


def test_a_wide_block_adds_its_input() -> None:
    model = build_model("wrn-16-1", 10, 3, 8).eval()
    block: Any = next(m for m in model.modules() if type(m).__name__ == "WideBlock")
    nn.init.zeros_(block.body[-1].weight)
    x = torch.randn(2, 16, 8, 8)
    assert block(x).equal(x)


@pytest.mark.parametrize(
    ("size", "tokens"), [(8, 4 * 4), (28, 7 * 7), (32, 8 * 8), (64, 8 * 8), (96, 12 * 12), (224, 14 * 14)]
)
def test_patches_follow_the_size_of_the_images(size: int, tokens: int) -> None:
    with torch.device("meta"):
        vit: Any = _made(Request("vit-t", 10, 3, size))
        mixer: Any = _made(Request("mixer-s", 10, 3, size))
    assert vit.patch_embed.num_patches == mixer.stem.num_patches == tokens


def test_small_resnet_is_as_described() -> None:
    model = build_model("small-resnet", 10, 1, 8)
    widths = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [16, 16, 16, 32, 32, 32, 64, 64, 64]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 9


def test_mlp_is_as_described() -> None:
    model = build_model("mlp", 10, 3, 8)
    layers = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert layers == [(192, 256), (256, 256), (256, 10)]


@pytest.mark.parametrize(("dropout", "rates"), [(0.0, [0.5, 0.5]), (0.2, [0.2, 0.2])])
def test_vgg_is_as_described(dropout: float, rates: list[float]) -> None:
    model = _made(Request("vgg16", 100, 3, 32, dropout=dropout))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == rates
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [512, 512, 100]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(("name", "variance"), [("resnet18", 2 / (9 * 64)), ("densenet121", 2 / (9 * 3))])
def test_stems_are_drawn_as_by_timm(name: str, variance: float) -> None:
    torch.manual_seed(0)
    stem = next(m for m in _made(Request(name, 10, 3, 32)).modules() if isinstance(m, nn.Conv2d))
    assert (stem.kernel_size, stem.stride) == ((3, 3), (1, 1))
    assert float(stem.weight.detach().var()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "wrn-16-2"])
def test_deep_networks_pass_signals_through(name: str) -> None:
    torch.manual_seed(0)
    model = build_backbone(name, 3, 32)
    features = model(torch.randn(4, 3, 32, 32))
    assert 0.05 < float(features.detach().std()) < 20


@pytest.mark.parametrize("name", [*SMALL, "resnet18", "densenet121", "mixer-s"])
def test_weights_come_from_the_global_generator(name: str) -> None:
    def weights(seed: int) -> list[float]:
        torch.manual_seed(seed)
        model = build_model(name, 4, 1, 8)
        return [*(float(p.detach().double().sum()) for p in model.parameters()), float(torch.rand(1))]

    first, again, other = weights(0), weights(0), weights(1)
    assert first == again
    assert sum(a != b for a, b in zip(first, other, strict=True)) > 3


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18", "wrn-10-1"])
def test_the_trial_leaves_no_trace(name: str) -> None:
    model = build_model(name, 4, 1, 8)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.num_batches_tracked == 0
        assert norm.running_mean is not None
        assert not norm.running_mean.any()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", [*SMALL, "densenet121", "mixer-s", "timm/mobilenetv3_small_050"])
def test_backbones_give_features(name: str) -> None:
    size = 32 if "mobilenet" in name else 8
    backbone = build_backbone(name, 1, size)
    assert backbone.training
    assert backbone(torch.randn(2, 1, size, size)).shape == (2, backbone.num_features)


@pytest.mark.parametrize("name", ["small-resnet", "mlp", "wrn-10-1", "resnet18", "timm/resnet18"])
def test_a_backbone_is_the_model_without_its_last_layer(name: str) -> None:
    model = build_model(name, 5, 1, 8).eval()
    backbone = build_backbone(name, 1, 8).eval()
    backbone.network.load_state_dict(model.state_dict(), strict=False)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(last(backbone(images)), model(images))
    assert count(model) == count(backbone) + (backbone.num_features + 1) * 5


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext-t", "vit-t", "swin-t", "mixer-s", "timm/swin_tiny_patch4_window7_224"]
)
def test_drop_path_reaches_the_blocks(name: str) -> None:
    def rates(drop_path: float) -> list[float]:
        with torch.device("meta"):
            model = _made(Request(name, 4, 3, 32, drop_path=drop_path))
        return [float(m.drop_prob) for m in model.modules() if type(m).__name__ == "DropPath"]  # type: ignore[arg-type]

    assert max(rates(0.3)) == pytest.approx(0.3)
    assert not any(rates(0.0))


@pytest.mark.parametrize("name", ["mlp", "wrn-10-1", "densenet121", "timm/vgg11"])
def test_networks_without_drop_path_say_so(name: str) -> None:
    with pytest.raises(InputError, match=f"model {name} has no drop_path; leave drop_path out"):
        build_model(name, 4, 3, 32, drop_path=0.1)


@pytest.mark.parametrize("name", ["small-resnet", "mlp", "wrn-10-1", "resnet18", "vit-t", "mixer-s", "timm/resnet18"])
def test_dropout_acts_in_training_alone(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 4, 1, 8, dropout=0.5)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)  # a last layer of zeros would hide what happens before it
    images = torch.randn(2, 1, 8, 8)
    assert not model(images).equal(model(images))
    model.eval()
    assert model(images).equal(model(images))


def test_a_model_with_a_fixed_size_is_made_for_the_images() -> None:
    model = build_model("timm/vit_tiny_patch16_224.augreg_in21k", 5, 1, 32)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(("name", "size"), [("timm/vit_tiny_patch16_224", 8), ("vgg16", 8), ("vit-t", 30)])
def test_images_of_a_wrong_size(name: str, size: int) -> None:
    with pytest.raises(InputError, match=f"{name} cannot take 1x{size}x{size} images; try --image-size 32") as caught:
        build_model(name, 4, 1, size)
    assert "\n" not in str(caught.value)
    build_model(name, 4, 1, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_outputs": 0}, "num_outputs 0"),
        ({"image_size": 0}, "image_size 0"),
        ({"in_channels": 0}, "in_channels 0"),
        ({"drop_path": 1.0}, "drop_path 1: write a rate"),
        ({"drop_path": float("nan")}, "drop_path nan"),
        ({"dropout": -0.1}, "dropout -0.1: write a rate"),
    ],
)
def test_bad_requests(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_model(**{"name": "mlp", "num_outputs": 2, "in_channels": 1, "image_size": 8, **arguments})
    assert "\n" not in str(caught.value)
