"""The heads of a cascade against closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from switch_ema.tasks.detection.models.cascade import LOSS_WEIGHTS, STAGES, ClassAgnosticPredictor, refined
from tests.tasks.detection.models.tiny import CLASSES, images, targets, tiny

TRUE = torch.tensor([[10.0, 10.0, 30.0, 30.0]])


class Fixed(nn.Module):
    """Says the same of every box."""

    def __init__(self, logits: list[float], deltas: list[float]) -> None:
        super().__init__()
        self.logits, self.deltas = torch.tensor(logits), torch.tensor(deltas)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits.repeat(len(features), 1), self.deltas.repeat(len(features), len(self.logits))


def stages(name: str = "cascade-rcnn") -> tuple[Any, Any]:
    detector: Any = tiny(name)
    return detector, detector.roi_heads.stages


def test_stages_are_those_of_the_paper() -> None:
    assert [iou for iou, _ in STAGES] == [0.5, 0.6, 0.7]
    assert [weights for _, weights in STAGES] == [
        (10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)
    ]  # fmt: skip
    assert LOSS_WEIGHTS == (1.0, 0.5, 0.25)
    assert len({id(stage.box_head) for stage in stages()[1]}) == 3


@pytest.mark.parametrize(("number", "labels"), [(0, [0, 2, 2, 2]), (1, [0, 0, 2, 2]), (2, [0, 0, 0, 2])])
def test_a_stage_is_positive_above_its_iou(number: int, labels: list[int]) -> None:
    heights = [0.45, 0.55, 0.65, 0.75]  # parts of the true box, so the IoU
    boxes = torch.tensor([[10.0, 10.0, 30.0, 10.0 + 20 * height] for height in heights])
    _, found = stages()[1][number].assign_targets_to_proposals([boxes], [TRUE], [torch.tensor([2])])
    assert found[0].tolist() == labels


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stage_decodes_with_its_weights(number: int) -> None:
    deltas = torch.tensor([[1.5, -0.5, 0.4, -0.2]])
    wx, wy, ww, wh = STAGES[number][1]
    x, y = 20 + 1.5 / wx * 20, 20 - 0.5 / wy * 20
    width, height = 20 * math.exp(0.4 / ww), 20 * math.exp(-0.2 / wh)
    wanted = torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    stage = stages()[1][number]
    torch.testing.assert_close(refined(stage, deltas.repeat(1, 4), [TRUE], [(64, 64)])[0], wanted)
    inside = refined(stage, deltas.repeat(1, 4), [TRUE], [(24, 22)])[0]
    torch.testing.assert_close(inside, wanted.minimum(torch.tensor([22.0, 24.0, 22.0, 24.0])))


def test_refined_boxes_have_no_gradient_and_stay_with_their_images() -> None:
    deltas = torch.zeros(3, 8, requires_grad=True)
    boxes = [TRUE, torch.cat([TRUE + 1, TRUE + 2])]
    found = refined(stages()[1][0], deltas, boxes, [(64, 64)] * 2)
    assert [len(image) for image in found] == [1, 2]
    assert not any(image.requires_grad for image in found)
    for before, after in zip(boxes, found, strict=True):
        torch.testing.assert_close(before, after)


def test_scores_are_averaged_and_boxes_move_at_each_stage() -> None:
    _, heads = stages()
    logits = [[0.0, 2.0, 0.0, 0.0], [0.0, 1.0, 0.5, 0.0], [1.0, 3.0, 0.0, 0.0]]
    for stage, said in zip(heads, logits, strict=True):
        stage.box_predictor = Fixed(said, [1.0, 0.0, 0.0, 0.0])
    detector: Any = tiny("cascade-rcnn")
    cascade = detector.roi_heads
    cascade.stages = heads
    cascade.eval()
    features = {str(level): torch.rand(1, 64, 16 // 2**level, 16 // 2**level) for level in range(3)}
    found, losses = cascade(features, [TRUE], [(64, 64)])
    assert losses == {}
    mean = torch.tensor(logits).softmax(-1).mean(0)
    best = found[0]["labels"] == 1
    torch.testing.assert_close(found[0]["scores"][best], mean[1:2])
    moved = TRUE + torch.tensor([1.0, 0.0, 1.0, 0.0]) * 20 * (1 / 10 + 1 / 20 + 1 / 30)
    torch.testing.assert_close(found[0]["boxes"][best], moved)
    assert sorted(found[0]["labels"].tolist()) == [1, 2, 3]


def test_losses_are_weighted() -> None:
    detector, heads = stages("cascade-mask-rcnn")
    for stage in heads:
        stage.box_predictor = Fixed([0.0] * (CLASSES + 1), [0.0] * 4)
    nn.init.zeros_(heads[-1].mask_predictor.mask_fcn_logits.weight)
    nn.init.zeros_(heads[-1].mask_predictor.mask_fcn_logits.bias)
    losses = detector(images(), targets(masks=True))
    for number, weight in enumerate(LOSS_WEIGHTS, start=1):
        assert losses[f"loss_classifier_{number}"].item() == pytest.approx(weight * math.log(CLASSES + 1), rel=1e-5)
    assert losses["loss_mask"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert {name for name in losses if "mask" in name} == {"loss_mask"}
    assert [stage.has_mask() for stage in heads] == [False, False, True]


def test_a_stage_learns_from_the_boxes_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, heads = stages()
    given: list[Any] = []
    for stage in heads:
        stage.box_predictor = Fixed([0.0] * (CLASSES + 1), [0.0, 0.0, 99.0, 99.0])  # to the whole image
        choose = stage.select_training_samples

        def spy(proposals: Any, truth: Any, choose: Any = choose) -> Any:
            given.append(torch.cat(proposals))
            return choose(proposals, truth)

        monkeypatch.setattr(stage, "select_training_samples", spy)
    detector(images(), targets(masks=False))
    whole = torch.tensor([0.0, 0.0, 64.0, 64.0])
    assert [bool((boxes == whole).all()) for boxes in given] == [False, True, True]


def test_one_box_serves_all_classes() -> None:
    logits, deltas = ClassAgnosticPredictor(5, 3)(torch.rand(2, 5))
    assert logits.shape == (2, 3)
    assert deltas.shape == (2, 12)
    assert deltas[:, :4].equal(deltas[:, 8:])
