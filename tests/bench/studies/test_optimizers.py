"""Optimizers and methods crossed: the sentences follow the intervals, and every optimizer has rates of its own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results
from switch_ema.bench.studies.optimizers import METHODS, OPTIMIZERS, STUDY
from switch_ema.bench.studies.study import Reading, vary
from tests.bench.sample import build, same

BASE = (0.50, 0.52, 0.54)
NO, WIN, LOSS, TIE = (0.0, 0.0, 0.0), (0.10, 0.11, 0.10), (-0.10, -0.11, -0.10), (0.10, -0.10, 0.01)


def reading(name: str, gains: Mapping[str, tuple[float | None, ...]], seeds: int = 3) -> Reading:
    """Make an arm in which methods gain known amounts on plain training."""
    curves = {
        (label, 0.1, seed): same(None if gain is None else BASE[seed] + gain)
        for label, each in {"baseline": NO, **gains}.items()
        for seed, gain in enumerate(each[:seeds])
    }
    run, rows = build(curves)
    return Reading(name, OPTIMIZERS[name], run, Results.from_rows(run, rows), [], {})


def settings(**changes: object) -> Settings:
    return Settings.of(task="classification", data="digits", model="mlp", **changes)


def test_the_sentences_name_where_it_helps_and_where_it_hurts() -> None:
    arms = [
        reading("sgd", {"ema": WIN, "sema": WIN, "lookahead": TIE}),
        reading("adam", {"ema": TIE, "sema": LOSS, "lookahead": TIE}),
        reading("lars", {"ema": WIN, "sema": TIE, "lookahead": TIE}),
    ]
    found = STUDY.findings(arms)
    start = "Switch EMA (sema) against plain training with the same optimizer, each at its own best rate: "
    assert found.sentences[0] == (
        f"{start}better with 1 of 3 (SGD); worse with 1 of 3 (Adam); no different beyond noise with 1 of 3 (LARS)."
    )
    assert found.sentences[3].endswith("own best rate: no different beyond noise with all 3 (SGD, Adam, LARS).")
    assert found.notes[0].startswith("12 intervals")
    (table,) = [panel.table for panel in found.panels if panel.table]
    assert [row[0] for row in table[1]] == ["SGD", "Adam", "LARS"]
    stars = found.panels[0].plots[1].traces[0]["text"]
    assert stars[-1] == ["+0.1033 *", "+0.0033", "+0.1033 *"]  # ema, the topmost row


def test_sharpness_aware_training_is_set_against_itself() -> None:
    sam = {"sam": LOSS, "sam+ema": NO, "sam+sema": LOSS, "sam+lookahead": LOSS}
    found = STUDY.findings([reading("sgd", {"ema": TIE, "sema": TIE, "lookahead": TIE, **sam})])
    assert (
        "EMA against plain training with the same optimizer, each at its own best rate: better with 1 of 2 "
        in (found.sentences[2])
    )
    assert "(SGD with SAM)" in found.sentences[2]


def test_a_rate_at_an_edge_is_named_where_it_counts() -> None:
    curves = {
        (label, lr, seed): same(BASE[seed] + (lr == 0.3) * (label == "sema") - 0.1 * (lr != 0.1))
        for label in METHODS for lr in (0.03, 0.1, 0.3) for seed in range(3)
    }  # fmt: skip
    run, rows = build(curves)
    found = STUDY.findings([Reading("sgd", "SGD", run, Results.from_rows(run, rows), [], {})])
    assert "with 1 of 1 (SGD*)" in found.sentences[0]
    assert "*" not in found.sentences[2]


def test_one_seed_and_divergence_claim_nothing() -> None:
    one = STUDY.findings([reading("sgd", {"ema": WIN, "sema": WIN, "lookahead": WIN}, seeds=1)])
    assert all("not to be judged" in sentence for sentence in one.sentences)
    gone = (None, None, None)
    lost = STUDY.findings([reading("sgd", {"ema": gone, "sema": gone, "lookahead": WIN})])
    assert "not to be judged" in lost.sentences[0]
    assert lost.panels[0].plots[1].traces[0]["text"][-1] == ["\N{EN DASH}"]


@pytest.mark.parametrize("asked", [{}, {"optimizer": "adamw", "lr": 0.002, "betas": "0.9,0.95", "lr_min": 1e-5}])
def test_every_optimizer_has_its_own_rates_in_proportion_to_what_was_asked(asked: dict[str, object]) -> None:
    base = settings(**asked)
    arms = {arm.name: arm.settings for arm in STUDY.arms(base)}
    assert set(arms) == set(OPTIMIZERS)
    ratio = base.lr[0] / vary(base, lr=(), lr_min=0).lr[0]
    for name, own in arms.items():
        assert own is not None
        default = vary(base, optimizer=name, lr=(), lr_min=0, betas=(), eps=None).lr[0]
        assert own.optimizer == name
        assert own.lr == pytest.approx([ratio * default * factor for factor in (0.3, 1, 3, 10)])
        assert own.betas == (base.betas if name == base.optimizer else ())
        assert {method.label for method in own.parsed_methods()} >= set(METHODS)
    sgd = arms["sgd"]
    assert sgd is not None
    assert "sam+sema" in sgd.methods


def test_several_rates_that_are_asked_for_stay() -> None:
    arms = {arm.name: arm.settings for arm in STUDY.arms(settings(lr="0.05,0.1"))}
    assert arms["sgd"] is not None
    assert arms["sgd"].lr == (0.05, 0.1)
    assert arms["adam"] is not None
    assert arms["adam"].lr == pytest.approx((0.001, 0.002))
