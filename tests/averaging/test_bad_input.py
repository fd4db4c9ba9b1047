"""Bad arguments: the type of the exception and what its one line says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from switch_ema import EMA, LAWA, SWA, Every, Lookahead, PowerEMA, SwitchEMA
from switch_ema.averaging.decay import (
    LinearRamp,
    decay_that_retains,
    from_half_life,
    from_window,
    parse_decay,
    retained_fraction,
)
from switch_ema.averaging.trigger import Duration

M = nn.Linear(2, 1)
SHARE = "share of the old average kept, a number in"


def _any(value: Any) -> Any:
    """Hide a wrong type from the type checker."""
    return value


TABLE: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("decay above 1", lambda: EMA(M, 1.5), ValueError, f"{SHARE}.*got 1.5; write e.g. 0.999"),
    ("decay below 0", lambda: EMA(M, -0.1), ValueError, SHARE),
    ("decay nan", lambda: EMA(M, math.nan), ValueError, f"{SHARE}.*got nan"),
    ("decay bool", lambda: EMA(M, True), ValueError, f"{SHARE}.*got True"),
    ("decay None", lambda: EMA(M, _any(None)), ValueError, "decay is None; write 0.999"),
    ("decay word", lambda: EMA(M, "slow"), ValueError, "'slow' is not a decay; write"),
    ("decay empty", lambda: EMA(M, ""), ValueError, "'' is not a decay"),
    ("decay percent", lambda: EMA(M, "99 %"), ValueError, "'99 %' is not a decay"),
    ("decay text above 1", lambda: EMA(M, "1.1"), ValueError, f"{SHARE}.*got 1.1"),
    ("half-life without unit", lambda: EMA(M, "half-life 500"), ValueError, "'500' is not a length of training"),
    ("half-life 0", lambda: EMA(M, "half-life 0 steps"), ValueError, "'0 steps' is not a length of training"),
    ("half-life of nothing", lambda: EMA(M, "half-life 1/00 epoch"), ValueError, "'1/00 epoch' is not a length"),
    ("half-life in epochs", lambda: EMA(M, "half-life 1 epoch"), ValueError, "needs steps_per_epoch=..."),
    (
        "window below a step",
        lambda: EMA(M, "window 0.01 epoch", steps_per_epoch=10),
        ValueError,
        "at least one step, got 0.1",
    ),
    ("warm-up without decay", lambda: EMA(M, "warmup"), ValueError, "'warmup' is not a decay"),
    ("warm-up of a word", lambda: EMA(M, "warmup fast"), ValueError, "'warmup fast' is not a decay"),
    ("ramp without length", lambda: EMA(M, "ramp 0.9"), ValueError, "'ramp 0.9' is not a decay"),
    (
        "ramp of no length",
        lambda: EMA(M, "ramp 0.9 over 0.1 epoch", steps_per_epoch=2),
        ValueError,
        "length must be a number above 0",
    ),
    ("ramp ratio", lambda: LinearRamp(0.9, 10, 1.5), ValueError, f"ratio is the {SHARE}"),
    ("update_every 0", lambda: EMA(M, update_every=0), ValueError, "interval above 0, got n=0"),
    ("update_every negative", lambda: EMA(M, update_every=-3), ValueError, "interval above 0, got n=-3"),
    ("update_every bool", lambda: EMA(M, update_every=True), ValueError, "interval above 0, got n=True"),
    (
        "update_every fraction",
        lambda: EMA(M, update_every=_any(2.5)),
        ValueError,
        "a whole number, got n=2.5; write 2",
    ),
    ("update_every word", lambda: EMA(M, update_every="often"), ValueError, "'often' is not a trigger; write it like"),
    (
        "update_every part of an epoch",
        lambda: EMA(M, update_every="0.5 epoch", steps_per_epoch=9),
        ValueError,
        "every N steps, not every '0.5 epochs'; write update_every=16",
    ),
    (
        "update_every part of an epoch, for snapshots",
        lambda: SWA(M, update_every="0.5 epoch"),
        ValueError,
        "every N steps or N whole epochs, not '0.5 epochs'; write it in steps",
    ),
    (
        "update_every epochs",
        lambda: EMA(M, update_every="1 epoch"),
        ValueError,
        "use SWA or LAWA to average by the epoch",
    ),
    (
        "update_after_step negative",
        lambda: EMA(M, update_after_step=-1),
        ValueError,
        "start is a whole number of steps",
    ),
    (
        "update_after_step twice",
        lambda: EMA(M, update_every="2 steps after 4", update_after_step=9),
        ValueError,
        "names a start already; leave out start=9",
    ),
    (
        "update_after_step for epochs",
        lambda: EMA(M, update_every="1 epoch", update_after_step=9),
        ValueError,
        "a start in steps does not fit the trigger '1 epoch'",
    ),
    ("switch_every None", lambda: SwitchEMA(M, switch_every=_any(None)), ValueError, "interval above 0, got n=None"),
    ("switch_every plural words", lambda: SwitchEMA(M, switch_every="two epochs"), ValueError, "is not a trigger"),
    ("switch_every nothing", lambda: SwitchEMA(M, switch_every="1/0 epoch"), ValueError, "'1/0 epoch' is not a length"),
    ("switch never", lambda: SwitchEMA(M, switch_every="1 epoch after 9 until 9"), ValueError, "never fires"),
    ("switch too late", lambda: SwitchEMA(M, switch_every="9 epochs until 5"), ValueError, "9 epochs.*until 5 never"),
    (
        "switch in an epoch of unknown length",
        lambda: SwitchEMA(M, 0.5, switch_every="0.5 epoch"),
        ValueError,
        "'0.5 epochs' needs steps_per_epoch=..., often len",
    ),
    (
        "switch more often than steps",
        lambda: SwitchEMA(M, 0.5, switch_every="0.1 epoch", steps_per_epoch=4),
        ValueError,
        "'0.1 epochs' is less than one of 4 steps",
    ),
    ("steps_per_epoch 0", lambda: EMA(M, steps_per_epoch=0), ValueError, "steps_per_epoch is a whole number of at"),
    ("steps_per_epoch float", lambda: EMA(M, steps_per_epoch=_any(2.5)), ValueError, "steps_per_epoch.*got 2.5"),
    (
        "optimizer_state",
        lambda: SwitchEMA(M, 0.5, optimizer_state=_any("drop")),
        ValueError,
        "optimizer_state is 'drop'; write 'keep' or 'reset'",
    ),
    ("alpha above 1", lambda: Lookahead(M, alpha=2.0), ValueError, "alpha is.*got 2.0"),
    ("k 0", lambda: Lookahead(M, k=0), ValueError, "interval above 0, got n=0"),
    (
        "window 0",
        lambda: LAWA(M, window=0),
        ValueError,
        "window is the number of snapshots averaged, at least 1, got 0",
    ),
    ("window fraction", lambda: LAWA(M, window=_any(2.5)), ValueError, "window is the number of snapshots"),
    ("gamma negative", lambda: PowerEMA(M, gamma=-1.0), ValueError, "gamma must be a number of at least 0, got -1.0"),
    ("gamma infinite", lambda: PowerEMA(M, gamma=math.inf), ValueError, "gamma must be a number of at least 0"),
    ("trigger unit", lambda: Every(1, _any("day")), ValueError, "unit is 'day'; write 'step' or 'epoch'"),
    ("trigger infinite", lambda: Every(math.inf, "epoch"), ValueError, "interval above 0, got n=inf"),
    ("trigger end", lambda: Every(1, end=_any(2.5)), ValueError, "end is a whole number of steps from 0, got 2.5"),
    ("trigger start", lambda: Every(1, "epoch", start=-2), ValueError, "start is a whole number of epochs from 0"),
    ("length in words", lambda: Duration.parse("one epoch"), ValueError, "'one epoch' is not a length of training"),
    ("half-life function", lambda: from_half_life(0), ValueError, "half-life must be a number above 0, got 0"),
    ("window function", lambda: from_window(0.5), ValueError, "at least one step, got 0.5 steps"),
    ("retained updates", lambda: retained_fraction(0.9, 0), ValueError, "updates must be a number above 0, got 0"),
    ("retained steps", lambda: EMA(M).retained_fraction(0), ValueError, "steps is a whole number of at least 1, got 0"),
    (
        "retained steps fraction",
        lambda: EMA(M).retained_fraction(_any(1.5)),
        ValueError,
        "steps is a whole number of at least 1, got 1.5",
    ),
    ("no parameters", lambda: EMA(nn.ReLU()), ValueError, "ReLU has no parameters; there is nothing to average"),
    (
        "only buffers",
        lambda: SWA(nn.BatchNorm1d(3, affine=False)),
        ValueError,
        "BatchNorm1d has no parameters; there is nothing",
    ),
    (
        "lazy",
        lambda: EMA(nn.Sequential(nn.LazyLinear(3))),
        ValueError,
        "'0.weight' has no shape yet; pass one batch through the model",
    ),
    (
        "meta",
        lambda: EMA(nn.Linear(2, 2, device="meta")),
        ValueError,
        "'weight' is on the meta device; load or initialise",
    ),
    (
        "parameters instead of a model",
        lambda: EMA(_any(M.parameters())),
        TypeError,
        "model is a torch.nn.Module, got generator; pass the model itself",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), [pytest.param(*row[1:], id=row[0]) for row in TABLE])
def test_refused_in_one_line(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_table_is_long_enough_and_its_defaults_are_fine() -> None:
    assert len(TABLE) >= 40
    for make in (EMA, SWA, Lookahead, LAWA, PowerEMA, SwitchEMA):
        make(M)
    assert parse_decay("warmup 0.9")(0) == 0.1
    assert decay_that_retains(0.25, 1) == 0.75


def test_copying_into_a_model_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="'weight' is on the meta device"):
        EMA(M).copy_to(nn.Linear(2, 1, device="meta"))


def test_half_precision_is_no_bad_input() -> None:
    assert EMA(nn.Linear(2, 1, dtype=torch.float16)).state_dict()["averages"]["weight"].dtype == torch.float32
