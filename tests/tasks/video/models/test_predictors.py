"""Every predictor: its size, what it returns, what it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switch_ema.errors import InputError
from switch_ema.tasks.video.models.base import Predictor
from switch_ema.tasks.video.models.build import build_predictor
from switch_ema.tasks.video.models.gsta import GatedAttention, attention_blocks
from switch_ema.tasks.video.models.incepu import InceptionUNet
from switch_ema.tasks.video.models.names import MODELS
from switch_ema.tasks.video.models.recurrent import RecurrentPredictor

# parameters at size paper for Moving-MNIST, and in millions as OpenSTL prints them
PARAMETERS = {
    "convlstm": (11_675_648, 15.0),  # 15.1 with the weights that OpenSTL makes and never uses, see below
    "predrnn": (23_838_720, 23.8),
    "simvp-incepu": (57_946_113, 58.0),
    "simvp-gsta": (46_769_665, 46.8),
    "tau": (44_656_001, 44.7),
    "mau": (4_475_329, 4.5),
}
EXACT = [name for name in MODELS if name not in ("convlstm", "simvp-incepu")]
SIDE = 8
LENGTHS = [(10, 10), (4, 6), (5, 1)]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def small(model: str, inputs: int = 3, outputs: int = 2, channels: int = 1) -> Predictor:
    torch.manual_seed(0)
    return build_predictor(
        model, channels=channels, height=SIDE, width=SIDE, inputs=inputs, outputs=outputs, size="small"
    )


def paper(model: str) -> Predictor:
    with torch.device("meta"):
        return build_predictor(model, channels=1, height=64, width=64, inputs=10, outputs=10)


def truth(predicted: Tensor, past: Tensor, future: Tensor) -> Tensor:
    return torch.cat((past, future), dim=1)[:, -predicted.shape[1] :]


@pytest.mark.parametrize("model", MODELS)
def test_parameters(model: str) -> None:
    assert count(paper(model)) == PARAMETERS[model][0]


@pytest.mark.parametrize("model", EXACT)
def test_parameters_are_as_published(model: str) -> None:
    assert round(count(paper(model)) / 1e6, 1) == PARAMETERS[model][1]


def test_convlstm_lacks_what_is_never_used() -> None:
    unused = 5 * 5 * 256 * 128 + 256 * 128  # in each layer: a gate upon the cell state, a 1x1 convolution
    published = count(paper("convlstm")) + 4 * unused
    assert published == 15_083_520
    assert published // 100_000 / 10 == 15.0


def test_translators_are_as_published_for_taxibj() -> None:
    # 4 frames of 2 channels, 32 maps each; there the encoder and the decoder have two layers of 3x3 convolutions each
    frame = (9 * 2 + 3) * 32 + 2 * (9 * 32 + 3) * 32 + (9 * 32 * 4 + 4 + 2) * 32 + (32 + 1) * 2
    assert round((count(InceptionUNet(4 * 32, 256, 8)) + frame) / 1e6, 2) == 13.79
    assert round((count(attention_blocks(4 * 32, 256, 8, 8, GatedAttention)) + frame) / 1e6, 2) == 9.96


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_small_is_small(model: str, channels: int) -> None:
    with torch.device("meta"):
        predictor = build_predictor(model, channels=channels, height=32, width=32, inputs=10, outputs=10, size="small")
    assert count(predictor) < 300_000
    assert {type(module) for module in predictor.modules()} == {type(module) for module in paper(model).modules()}


@pytest.mark.parametrize(("inputs", "outputs"), LENGTHS)
@pytest.mark.parametrize("model", MODELS)
def test_shapes_and_gradients(model: str, inputs: int, outputs: int) -> None:
    predictor = small(model, inputs, outputs)
    past, future = torch.rand(2, inputs, 1, SIDE, SIDE), torch.rand(2, outputs, 1, SIDE, SIDE)
    predicted = predictor(past, future)
    frames = inputs + outputs - 1 if isinstance(predictor, RecurrentPredictor) else outputs
    assert predicted.shape == (2, frames, 1, SIDE, SIDE)
    F.mse_loss(predicted, truth(predicted, past, future)).backward()
    for name, parameter in predictor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("model", MODELS)
def test_channels_and_oblong_frames(model: str) -> None:
    predictor = build_predictor(model, channels=3, height=16, width=24, inputs=1, outputs=2, size="small").eval()
    assert predictor(torch.rand(1, 1, 3, 16, 24)).shape[-4:] == (2, 3, 16, 24)


@pytest.mark.parametrize("model", ["simvp-incepu", "simvp-gsta", "tau"])
def test_more_frames_come_from_predicted_ones(model: str) -> None:
    longer = small(model, 2, 5).eval()
    once = small(model, 2, 2).eval()
    fewer = small(model, 2, 1).eval()
    past = torch.rand(2, 2, 1, SIDE, SIDE)
    first = once(past)
    second = once(first)
    torch.testing.assert_close(longer(past), torch.cat((first, second, once(second)[:, :1]), dim=1))
    torch.testing.assert_close(fewer(past), first[:, :1])


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_falls(model: str) -> None:
    predictor = small(model)
    frames = torch.rand(2, 1, 1, SIDE, SIDE).repeat(1, 5, 1, 1, 1)
    past, future = frames[:, :3], frames[:, 3:]
    optimizer = torch.optim.Adam(predictor.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        predicted = predictor(past, future)
        expected = truth(predicted, past, future)
        loss = F.mse_loss(predicted, expected)
        extra = predictor.extra_loss(predicted, expected)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("model", MODELS)
def test_evaluation_is_deterministic(model: str) -> None:
    predictor = small(model).eval()
    past, future = torch.rand(2, 3, 1, SIDE, SIDE), torch.rand(2, 2, 1, SIDE, SIDE)
    before = torch.get_rng_state()
    predicted = predictor(past)
    assert predictor(past).equal(predicted)
    assert predictor(past, future).equal(predicted)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("model", MODELS)
def test_weights_come_from_the_global_generator(model: str) -> None:
    first, again = small(model).state_dict(), small(model).state_dict()
    assert all(first[name].equal(again[name]) for name in first)


@pytest.mark.parametrize("model", MODELS)
def test_half_precision(model: str) -> None:
    predictor = small(model)
    past, future = torch.rand(2, 3, 1, SIDE, SIDE), torch.rand(2, 2, 1, SIDE, SIDE)
    torch.manual_seed(1)
    exact = predictor(past, future)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = predictor(past, future)
        extra = predictor.extra_loss(predicted, truth(predicted, past, future))
    assert predicted.dtype == torch.bfloat16
    torch.testing.assert_close(predicted.float(), exact, atol=0.05, rtol=0.05)
    (predicted.float().square().mean() + (0 if extra is None else extra)).backward()
    for parameter in predictor.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "simvp"}, "unknown model 'simvp'; did you mean"),
        ({"height": 30}, "write 32x16"),
        ({"size": "smal"}, "unknown size 'smal'; did you mean 'small'"),
        ({"channels": 0}, "channels 0"),
        ({"outputs": 0}, "outputs 0"),
    ],
)
def test_bad_requests(changes: dict[str, Any], words: str) -> None:
    request = {"model": "mau", "channels": 1, "height": 16, "width": 16, "inputs": 2, "outputs": 2, **changes}
    with pytest.raises(InputError, match=words) as caught:
        build_predictor(**request)
    assert "\n" not in str(caught.value)


def test_what_the_count_does_not_show() -> None:
    recurrent: list[Any] = [paper("convlstm"), paper("predrnn"), paper("mau")]
    assert [(model.patch, len(model.cells)) for model in recurrent] == [(4, 4), (4, 4), (1, 4)]
    assert recurrent[-1].tau == 5
