"""Under autocast, boxes, scores and losses are in single precision all the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from switch_ema.tasks.detection.models.names import MASK_MODELS, MODELS
from tests.tasks.detection.models.test_detectors import trained
from tests.tasks.detection.models.tiny import CLASSES, Targets, images, tiny


def mixed() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def rounded(values: Tensor) -> bool:
    """Whether all values are among the few that bfloat16 has."""
    return values.bfloat16().float().equal(values)


@pytest.mark.parametrize("name", MODELS)
def test_detections(name: str) -> None:
    detector = copy.deepcopy(trained(name)[0]).eval()
    with torch.no_grad():
        wanted = detector(images())[0]
        with mixed():
            found = detector(images())[0]
    numbers = {key: values for key, values in found.items() if key != "labels"}
    assert {values.dtype for values in numbers.values()} == {torch.float32}
    assert not any(rounded(values) for values in numbers.values())
    near = box_iou(wanted["boxes"][:5], found["boxes"]).max(1).values  # one may be suppressed by another
    assert near.median() > 0.9
    torch.testing.assert_close(found["scores"][0], wanted["scores"][0], rtol=0.05, atol=0.0)


def wide(masks: bool) -> tuple[list[Tensor], Targets]:
    """Return an image so wide that bfloat16 knows its right end by steps of 4 pixels only."""
    boxes = torch.tensor([[905.0, 9.0, 921.0, 27.0], [990.0, 5.0, 1003.0, 21.0]])
    target = {"boxes": boxes, "labels": torch.tensor([1, CLASSES])}
    if masks:
        target["masks"] = torch.zeros(2, 32, 1024, dtype=torch.uint8)
        target["masks"][:, 9:21] = 1
    return [torch.rand(3, 32, 1024, generator=torch.Generator().manual_seed(0))], [target]


@pytest.mark.parametrize("name", MODELS)
def test_losses(name: str) -> None:
    detector = tiny(name, sizes=(32,))
    batch = wide(name in MASK_MODELS)
    torch.manual_seed(1)
    wanted = detector(*batch)
    torch.manual_seed(1)
    with mixed():
        found = detector(*batch)
    assert {loss.dtype for loss in found.values()} == {torch.float32}
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.002)
    sum(found.values(), torch.zeros(())).backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())
