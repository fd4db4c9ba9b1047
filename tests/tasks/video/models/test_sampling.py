"""Scheduled sampling: how often recurrent predictors are shown true frames, seen by what changing these changes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from switch_ema import SwitchEMA
from switch_ema.tasks.video.models.build import build_predictor
from switch_ema.tasks.video.models.recurrent import RecurrentPredictor

RECURRENT = ["convlstm", "predrnn", "mau"]
INPUTS, OUTPUTS = 2, 4


def recurrent(model: str, outputs: int = OUTPUTS) -> RecurrentPredictor[object]:
    torch.manual_seed(0)
    predictor = build_predictor(model, channels=1, height=8, width=8, inputs=INPUTS, outputs=outputs, size="small")
    assert isinstance(predictor, RecurrentPredictor)
    return predictor


def video(n: int = 3) -> tuple[Tensor, Tensor]:
    frames = torch.rand(n, INPUTS + OUTPUTS, 1, 8, 8)
    return frames[:, :INPUTS], frames[:, INPUTS:]


def changed(predictor: RecurrentPredictor[object], past: Tensor, future: Tensor, frame: int) -> list[bool]:
    """Say which predicted frames change with a true future frame."""
    other = future.clone()
    other[:, frame] = 1 - other[:, frame]
    torch.manual_seed(1)
    before = predictor(past, future)
    torch.manual_seed(1)
    after = predictor(past, other)
    return [not before[:, t].equal(after[:, t]) for t in range(before.shape[1])]


@pytest.mark.parametrize("model", RECURRENT)
def test_at_first_every_true_frame_is_shown(model: str) -> None:
    predictor = recurrent(model)
    past, future = video()
    for frame in range(OUTPUTS):  # seen at step INPUTS + frame; the last one is never an input
        assert changed(predictor, past, future, frame) == [t >= INPUTS + frame for t in range(INPUTS + OUTPUTS - 1)]


@pytest.mark.parametrize("model", RECURRENT)
def test_with_the_truth_predictions_are_not_fed_back(model: str) -> None:
    predictor = recurrent(model)
    past, future = video()
    shown = predictor(past, future)
    longer = build_predictor(model, channels=1, height=8, width=8, inputs=INPUTS + 2, outputs=2, size="small")
    longer.load_state_dict(predictor.state_dict())
    torch.testing.assert_close(longer(torch.cat((past, future[:, :2]), dim=1), future[:, 2:]), shown)


@pytest.mark.parametrize("progress", [0.4, 1.0])
@pytest.mark.parametrize("model", RECURRENT)
def test_in_the_end_none_is(model: str, progress: float) -> None:
    predictor = recurrent(model)
    predictor.schedule(progress)
    past, future = video()
    assert not any(itertools.chain(*(changed(predictor, past, future, frame) for frame in range(OUTPUTS))))
    assert predictor(past, future).equal(predictor(past))
    assert predictor(past).equal(predictor.eval()(past))


@pytest.mark.parametrize("model", RECURRENT)
def test_between_it_is_drawn_by_the_global_generator(model: str) -> None:
    predictor = recurrent(model)
    predictor.schedule(0.2)
    past, future = video(4)

    def predict(seed: int) -> Tensor:
        torch.manual_seed(seed)
        predicted: Tensor = predictor(past, future)
        return predicted

    assert predict(0).equal(predict(0))
    assert not predict(0).equal(predict(1))
    shown = {bool(row[-1]) for seed in range(4) for row in _shown(predictor, past, future, seed)}
    assert shown == {False, True}  # each video has its own draw


def _shown(predictor: RecurrentPredictor[object], past: Tensor, future: Tensor, seed: int) -> list[list[bool]]:
    """Say for each video which predicted frames change with the first true future frame."""
    other = future.clone()
    other[:, 0] = 1 - other[:, 0]
    torch.manual_seed(seed)
    before = predictor(past, future)
    torch.manual_seed(seed)
    after = predictor(past, other)
    return (before != after).flatten(2).any(2).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 1.0), (0.1, 0.75), (0.2, 0.5), (0.3, 0.25), (0.4, 0.0), (1.0, 0.0)]
)
def test_share_falls_linearly(progress: float, share: float) -> None:
    predictor = recurrent("convlstm", outputs=100)
    predictor.schedule(progress)
    draws = predictor._draw(torch.zeros(100, 100, 1, 8, 8))
    shown = torch.stack([draw[0] for draw in draws if draw is not None])
    assert float(shown.double().mean()) == pytest.approx(share, abs=0.02 if 0 < share < 1 else 0)


@pytest.mark.parametrize("model", RECURRENT)
def test_as_many_numbers_are_drawn_at_any_share(model: str) -> None:
    predictor = recurrent(model)
    past, future = video()
    states = []
    for progress in (0.0, 0.2, 1.0):
        predictor.schedule(progress)
        torch.manual_seed(0)
        predictor(past, future)
        states.append(torch.get_rng_state())
    assert states[0].equal(states[1])
    assert states[0].equal(states[2])


def test_the_share_is_saved_with_the_weights() -> None:
    predictor = recurrent("convlstm")
    predictor.schedule(0.3)
    resumed = recurrent("convlstm")
    resumed.load_state_dict(copy.deepcopy(predictor.state_dict()))
    past, future = video()
    torch.manual_seed(0)
    expected = predictor(past, future)
    torch.manual_seed(0)
    assert resumed(past, future).equal(expected)


def test_averaging_leaves_the_share_alone() -> None:
    predictor = recurrent("convlstm")
    averager = SwitchEMA(predictor, decay=0.5, switch_every=2)
    for progress in (0.1, 0.3):
        predictor.schedule(progress)
        averager.update()
    assert averager.n_switches == 1
    after = predictor.true_share.clone()
    predictor.schedule(0.3)
    assert predictor.true_share.equal(after)
