"""RT-DETR in torchvision's convention."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from switch_ema.tasks.detection.models.rtdetr import _wanted
from tests.tasks.detection.models.tiny import CLASSES, images, targets, tiny

EXTENT = torch.tensor([96.0, 64.0, 96.0, 64.0])


@pytest.fixture(scope="module")
def detector() -> Any:
    return tiny("rt-detr")


def test_boxes_are_parts_of_the_padded_image() -> None:
    wanted = _wanted({"boxes": torch.tensor([[24.0, 16.0, 72.0, 32.0]]), "labels": torch.tensor([3])}, EXTENT)
    assert wanted["class_labels"].tolist() == [2]
    torch.testing.assert_close(wanted["boxes"], torch.tensor([[0.5, 0.375, 0.5, 0.25]]))


def test_the_best_pairs_of_query_and_class_are_found(detector: Any) -> None:
    logits = torch.full((1, 4, CLASSES), -9.0)
    logits[0, 1, 2], logits[0, 3, 0] = 2.0, 1.0
    boxes = torch.full((1, 4, 4), 0.5)
    boxes[0, 3] = torch.tensor([0.9, 0.5, 0.4, 0.5])  # reaches into the padding
    found = detector._found(SimpleNamespace(logits=logits, pred_boxes=boxes), EXTENT, [(64, 90)])[0]
    assert found["labels"][:2].tolist() == [3, 1]
    torch.testing.assert_close(found["scores"][:2], torch.tensor([2.0, 1.0]).sigmoid())
    torch.testing.assert_close(found["boxes"][:2], torch.tensor([[24.0, 16.0, 72.0, 48.0], [67.2, 16.0, 90.0, 48.0]]))


def test_boxes_are_given_back_in_pixels_of_the_image(detector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = SimpleNamespace(logits=torch.ones(1, 1, CLASSES), pred_boxes=torch.tensor([[[0.25, 0.5, 0.5, 1.0]]]))
    monkeypatch.setattr(detector.network, "forward", lambda canvas: outputs)
    detector.eval()
    boxes = detector([torch.rand(3, 32, 32)])[0]["boxes"]
    detector.train()
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0.0, 16.0, 32.0]]).expand(CLASSES, 4))


def test_the_losses_are_the_librarys_and_there_is_one_set_for_each_layer(detector: Any) -> None:
    losses = detector(images(), targets(masks=False))
    layers = detector.network.config.decoder_layers
    kinds = {f"loss_{kind}" for kind in ("vfl", "bbox", "giou")}
    assert {name for name in losses if "_dn_" not in name and "_aux_" not in name} == kinds
    assert len(losses) == 3 * (layers + 1 + layers)  # layers, the chosen queries, and the noisy boxes of each layer


def test_without_boxes_every_query_is_background(detector: Any) -> None:
    def say(layer: Any) -> None:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)

    model = detector.network.model
    for layer in [model.enc_score_head, *model.decoder.class_embed]:
        say(layer)
    losses = detector(images()[1:], targets(masks=False)[1:])
    config = detector.network.config
    one = config.focal_loss_alpha * 0.5**config.focal_loss_gamma * math.log(2) * config.num_queries * CLASSES
    assert sum(losses.values()).item() == pytest.approx((config.decoder_layers + 1) * one, rel=1e-5)


def test_a_diverged_network_has_a_loss_that_is_no_number() -> None:
    detector: Any = tiny("rt-detr")
    nn.init.constant_(detector.network.model.enc_output[0].weight, math.nan)
    loss = sum(detector(images(), targets(masks=False)).values())
    assert loss.isnan()
    loss.backward()
    assert not detector.eval()(images())[0]["boxes"].isnan().any()


@pytest.mark.parametrize(("shape", "padded"), [((12, 20), (32, 32)), ((33, 64), (64, 64))])
def test_images_are_padded_so_that_there_are_places_for_the_queries(
    shape: tuple[int, int], padded: tuple[int, int]
) -> None:
    detector: Any = tiny("rt-detr", sizes=(shape[0],)).eval()
    seen = []
    detector.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    detector([torch.rand(3, *shape)])
    assert seen == [padded]
    detector._least_side = 96
    detector([torch.rand(3, *shape)])
    assert seen[1] == (96, 96)
