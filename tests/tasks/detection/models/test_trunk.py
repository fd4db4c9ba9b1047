"""Backbones: strides, weights from files, frozen parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.ops.misc import FrozenBatchNorm2d

from switch_ema.errors import InputError
from switch_ema.tasks.detection.models.build import build_detector
from switch_ema.tasks.detection.models.trunk import make_trunk
from tests.tasks.detection.models.tiny import count, tiny


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(5)
    state: dict[str, Tensor] = resnet18(num_classes=7).state_dict()
    return state


@pytest.mark.parametrize(("backbone", "first"), [("small", 1), ("resnet18", 2)])
def test_maps(backbone: str, first: int) -> None:
    trunk = make_trunk(backbone)
    maps = trunk.maps(first).eval()(torch.rand(1, 3, 64, 96))
    shapes = [tuple(found.shape[1:]) for found in maps.values()]
    strides = [2 ** (first + 1 + level) for level in range(len(shapes))]
    assert len(shapes) == 3
    assert shapes == [(c, 64 // s, 96 // s) for c, s in zip(trunk.channels[first - 1 :], strides, strict=True)]


def test_the_small_backbone_is_light() -> None:
    assert 3e5 < count(make_trunk("small").pyramid(1, 64)) < 1e6


@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster-rcnn", "cascade-rcnn"])
def test_anchors_stand_where_the_maps_look(name: str) -> None:
    detector: Any = tiny(name, sizes=(37,)).eval()
    batch, _ = detector.transform([torch.rand(3, 37, 53)])
    assert batch.tensors.shape[-2:] == (64, 64)
    maps = list(detector.backbone(batch.tensors).values())
    generator = detector.rpn.anchor_generator if hasattr(detector, "rpn") else detector.anchor_generator
    assert [found.shape[-1] for found in maps] == [16, 8, 4, 2]
    anchors = generator(batch, maps)[0]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    each = generator.num_anchors_per_location()[0]
    start = 0
    for stride, places in zip((4, 8, 16, 32), (16, 8, 4, 2), strict=True):
        level = centres[start : start + each * places**2]
        assert level.unique(dim=0).sort(0).values[-1].tolist() == [stride * (places - 1)] * 2
        start += len(level)
    assert start == len(anchors)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_are_loaded(ending: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"resnet18{ending}"
    torch.save(weights, path) if ending == ".pth" else save_file(weights, path)
    network: Any = make_trunk("resnet18", str(path), frozen_stages=True).network
    state = network.state_dict()
    for name in ("conv1.weight", "bn1.running_var", "layer4.1.conv2.weight", "layer2.0.downsample.1.weight"):
        assert state[name].equal(weights[name])
    norms = [module for module in network.modules() if "BatchNorm" in type(module).__name__]
    assert norms
    assert all(isinstance(module, FrozenBatchNorm2d) for module in norms)
    still = {name.split(".")[0] for name, weight in network.named_parameters() if not weight.requires_grad}
    assert still == {"conv1", "layer1"}


def test_without_weights_all_is_trained() -> None:
    network = make_trunk("resnet18").network
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_weights_reach_the_detector(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(weights, path)
    detector: Any = build_detector("fcos", 2, masks=False, backbone="resnet18", weights=str(path))
    assert detector.backbone.body.conv1.weight.equal(weights["conv1.weight"])
    assert all(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"layer3.0.conv1.weight": None},
            "not those of resnet18: layer3.0.conv1.weight is missing; give torchvision's",
        ),
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "conv1.weight is 64x3x3x3, not 64x3x7x7"),
        ({"layer1.2.conv1.weight": torch.zeros(1)}, "layer1.2.conv1.weight is too much"),
        ({"conv1.weight": 3}, "conv1.weight is missing"),
    ],
)
def test_weights_of_another_network(
    change: dict[str, Any], words: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({name: weight for name, weight in {**weights, **change}.items() if weight is not None}, path)
    with pytest.raises(InputError, match=words):
        make_trunk("resnet18", str(path))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_files_that_hold_no_weights(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{ending}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not to be read as weights") as caught:
        make_trunk("resnet18", str(path))
    assert "\n" not in str(caught.value)


def test_a_file_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="it holds a list; give a state_dict"):
        make_trunk("resnet18", str(path))
