"""Every detector learns from a tiny batch, and speaks torchvision's language."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from switch_ema.errors import InputError
from switch_ema.tasks.detection.models.build import build_detector
from switch_ema.tasks.detection.models.names import MASK_MODELS, MODELS
from tests.tasks.detection.models.tiny import CLASSES, count, images, targets, tiny

STEPS = 6
# name, torchvision's own, and the classes it is told: it counts the background where ours has no output for it
TORCHVISION = [
    ("retinanet", detection.retinanet_resnet50_fpn, 91),
    ("fcos", detection.fcos_resnet50_fpn, 91),
    ("faster-rcnn", detection.fasterrcnn_resnet50_fpn, 90),
    ("mask-rcnn", detection.maskrcnn_resnet50_fpn, 90),
]


@cache
def trained(name: str) -> tuple[nn.Module, list[float], list[bool]]:
    """Train a little; return the model, the losses, and whether each parameter got a gradient."""
    detector = tiny(name)
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3 if name == "rt-detr" else 5e-4)
    losses = []
    for _ in range(STEPS):
        torch.manual_seed(1)  # the same samples of anchors and boxes, and the same noise, every time
        optimizer.zero_grad()
        loss = sum(detector(images(), targets(name in MASK_MODELS)).values(), torch.zeros(()))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return detector, losses, [parameter.grad is not None for parameter in detector.parameters()]


def detect(detector: nn.Module, given: list[Tensor]) -> list[dict[str, Tensor]]:
    with torch.no_grad():
        found: list[dict[str, Tensor]] = copy.deepcopy(detector).eval()(given)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_falls(name: str) -> None:
    _, losses, reached = trained(name)
    assert torch.tensor(losses).isfinite().all()
    assert losses[-1] < 0.9 * losses[0]
    assert all(reached)


@pytest.mark.parametrize("name", MODELS)
def test_detections(name: str) -> None:
    detector, _, _ = trained(name)
    given = [images()[0], torch.rand(3, 37, 53), torch.rand(3, 90, 41)]
    found = detect(detector, given)
    assert sum(len(image["boxes"]) for image in found) > 0
    for image, said in zip(given, found, strict=True):
        boxes, scores, labels = said["boxes"], said["scores"], said["labels"]
        height, width = image.shape[1:]
        assert boxes.shape == (len(scores), 4)
        assert len(scores) == len(labels) <= 50
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert labels.dtype == torch.int64
        assert ((labels >= 1) & (labels <= CLASSES)).all()
        assert ((scores >= 0) & (scores <= 1)).all()
        assert scores.diff().le(0).all()
        assert ("masks" in said) is (name in MASK_MODELS)
        if name in MASK_MODELS:
            assert said["masks"].shape == (len(boxes), 1, height, width)
            assert ((said["masks"] >= 0) & (said["masks"] <= 1)).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_state_gives_the_same_detections(name: str) -> None:
    detector, _, _ = trained(name)
    other = tiny(name, seed=1)
    first, second = detect(detector, images()), detect(other, images())
    assert any(not torch.equal(a["scores"], b["scores"]) for a, b in zip(first, second, strict=True))
    other.load_state_dict(detector.state_dict())
    for before, after in zip(first, detect(other, images()), strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_without_any_box(name: str) -> None:
    detector = copy.deepcopy(trained(name)[0]).train()
    detector.zero_grad()
    loss = sum(detector(images()[1:], targets(name in MASK_MODELS)[1:]).values(), torch.zeros(()))
    loss.backward()
    assert 0 < loss.item() < torch.inf
    assert all(parameter.grad is not None for parameter in detector.parameters())


@pytest.mark.parametrize("name", ["fcos", "cascade-rcnn", "rt-detr"])
def test_one_of_several_scales_is_drawn(name: str) -> None:
    detector: Any = tiny(name, sizes=(32, 96, 64), max_size=128)
    given = [torch.rand(3, 20, 30)] * 30

    def shapes(seed: int) -> list[tuple[int, int]]:
        torch.manual_seed(seed)
        scaled: list[tuple[int, int]] = detector.transform(given)[0].image_sizes
        return scaled

    assert set(shapes(0)) == {(32, 48), (85, 128), (64, 96)}  # 96 x 144 would be too long
    assert shapes(0) == shapes(0) != shapes(1)
    detector.eval()
    assert set(shapes(0)) == {(64, 96)}


@pytest.mark.parametrize(("name", "theirs", "classes"), TORCHVISION)
def test_as_many_parameters_as_torchvisions(name: str, theirs: Any, classes: int) -> None:
    with torch.device("meta"):
        ours = build_detector(name, classes, masks=name in MASK_MODELS, backbone="resnet50")
        assert count(ours) == count(theirs(weights=None, weights_backbone=None, num_classes=91))


@pytest.mark.parametrize("name", ["cascade-rcnn", "cascade-mask-rcnn"])
def test_a_cascade_has_two_more_heads(name: str) -> None:
    plain = {"cascade-rcnn": "faster-rcnn", "cascade-mask-rcnn": "mask-rcnn"}[name]
    masks = name in MASK_MODELS
    with torch.device("meta"):
        one = count(build_detector(plain, 80, masks=masks, backbone="resnet50"))
        three = count(build_detector(name, 80, masks=masks, backbone="resnet50"))
    head = (256 * 49 + 1) * 1024 + 1025 * 1024
    assert three - one == 2 * head + 3 * 1025 * (81 + 4) - 1025 * (81 + 4 * 81)


def test_rt_detr_is_as_large_as_published() -> None:
    with torch.device("meta"):
        detector: Any = build_detector("rt-detr", 80, masks=False, backbone="resnet50")
    assert round(count(detector) / 1e6) == 43  # the library's r50vd: 42.9 million
    assert detector.network.config.feat_strides == [8, 16, 32]
    assert detector.network.config.num_queries == 300


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_every_output_of_one_stage_is_a_class(name: str) -> None:
    detector: Any = tiny(name)
    head = detector.head.classification_head.cls_logits
    assert head.out_channels % CLASSES == 0
    nn.init.constant_(head.bias.data.view(-1, CLASSES)[:, 1], 5.0)
    labels = torch.cat([image["labels"] for image in detect(detector, images())])
    assert len(labels)
    assert (labels == 2).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 0}, "num_classes 0: write 1 or more; the background is not counted"),
        ({"sizes": ()}, r"sizes \(\): write one or more whole numbers"),
        ({"sizes": (64, 0)}, "sizes .*: write one or more whole numbers"),
        ({"sizes": (64, 96), "max_size": 80}, "max_size 80: write at least the largest of sizes, 96"),
        ({"model": "fcoss"}, "did you mean 'fcos'"),
        ({"masks": True}, "model fcos: it gives no masks"),
        ({"frozen_stages": True}, "frozen_stages true: nobody has trained them"),
    ],
)
def test_bad_requests(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_detector(**{"model": "fcos", "num_classes": 2, "masks": False, **arguments})
