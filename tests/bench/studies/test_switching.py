"""The studies of decay and interval on made-up results with known winners."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from switch_ema.bench.studies import contradiction, decay_window, switch_interval
from switch_ema.bench.studies.problems import problems
from switch_ema.bench.studies.run import plan_study
from switch_ema.bench.studies.study import Reading
from tests.bench.studies.readings import methods, per_seed, reading

Values = dict[int, tuple[Sequence[float | None], Sequence[float | None]]]


def ends(at: float, seeds: int = 4, *, name: str = "", wobble: float = 0.002) -> Values:
    """Return curves that end at a value, seeds apart by a little."""
    drawn = random.Random(name)
    return per_seed(seeds, lambda seed: [0.1, at + drawn.uniform(0, wobble)])


def arm(name: str, title: str, labels: Sequence[str], value: Callable[[str, float], float], **more: object) -> Reading:
    seeds = int(str(more.get("seeds", 4)))
    lrs = (0.01, 0.1, 1.0)
    curves = methods(
        *((label, lr, ends(value(label, lr), seeds, name=f"{label}{lr}")) for label in labels for lr in lrs)
    )
    return reading(curves, name=name, title=title)


PAIRS = [decay_window.setting(w, i) for w in decay_window.WINDOWS for i in decay_window.INTERVALS]
EMAS = [f"ema:decay=window {w:g} epochs" for w in decay_window.EMA_WINDOWS]


def decay_arms(switching: float, auto: float = 0.8, seeds: int = 4) -> list[Reading]:
    """Plain training is best at the lowest rate; one pair ends where told, the others at 0.8."""
    plain = {0.01: 0.9, 0.1: 0.85, 1.0: 0.5}
    bn = [
        f"sema:decay=window {w:g} epochs{more}"
        for w in decay_window.BATCHNORM_WINDOWS
        for more in ("", ",use_buffers=false")
    ]
    labels = ["baseline", *EMAS, "ema:decay=auto", *PAIRS, "sema:decay=auto,switch_every=auto"]

    def value(label: str, lr: float) -> float:
        if not label.startswith("sema"):
            return plain[lr]
        return switching if label == PAIRS[3] else auto if "auto" in label else plain[lr] - 0.1

    return [
        arm("asked", "net", labels, value, seeds=seeds),
        arm("batchnorm", "bn", ["baseline", *bn], lambda label, _: 0.7 if "use_buffers" in label else 0.8, seeds=seeds),
    ]  # fmt: skip


def test_the_best_pair_stands_against_plain_training_at_its_lower_rate() -> None:
    found = decay_window.STUDY.findings(decay_arms(0.95))
    assert f"{PAIRS[3]} is best on validation" in found.sentences[0]
    assert "it is better than plain training at its own best rate (+0.0498" in found.sentences[0]
    level = decay_window.STUDY.findings(decay_arms(0.9))
    assert "it shows no difference beyond noise from plain training" in level.sentences[0]
    worse = decay_window.STUDY.findings(decay_arms(0.7))
    assert "it is worse than plain training" in worse.sentences[0]


def test_automatic_decay_is_judged_against_the_best_fixed_one() -> None:
    worse, equal = (decay_window.STUDY.findings(decay_arms(0.95, auto)).sentences[1] for auto in (0.8, 0.95))
    assert "sema:decay=auto,switch_every=auto is worse than the best fixed" in worse
    assert "sema:decay=auto,switch_every=auto shows no difference beyond noise from the best fixed" in equal


def test_batchnorm_statistics_are_compared() -> None:
    assert "change test score by at most 0.1" in decay_window.STUDY.findings(decay_arms(0.9)).sentences[-1]


def test_one_seed_tells_nothing() -> None:
    assert (
        "it cannot be told from plain training" in decay_window.STUDY.findings(decay_arms(0.95, seeds=1)).sentences[0]
    )


INTERVALS = {
    f"sema:decay=window {w},switch_every={i}"
    for i in ("2 steps", "5 steps", "50 steps", "0.5 epochs", "1 epochs", "2 epochs", "5 epochs")
    for w in ("1 epoch", i)
}


def test_the_best_interval_is_named() -> None:
    best = "sema:decay=window 1 epoch,switch_every=5 epochs"
    value = {best: 0.95}
    made = arm("as-asked", "net", ["baseline", "ema", *sorted(INTERVALS)], lambda label, _: value.get(label, 0.8))
    (sentence,) = switch_interval.STUDY.findings([made]).sentences
    assert "with a window of one epoch, a switch every 5 epochs is best on validation; on test it is better" in sentence
    assert "it is better than a switch every epoch" in sentence


def contradiction_arms(gain: float, *, tuned: float) -> list[Reading]:
    """At the middle rate plain training ends at 0.8, at the lowest at `tuned`; switching ends at 0.8 + gain."""
    plain = {0.01: tuned, 0.1: 0.8, 1.0: 0.5}
    settings = list(contradiction.SETTINGS.values())
    emas = [f"ema:decay=window {window} epochs,use_buffers=false" for window in ("0.3", "2")]
    made = []
    for problem in ("asked", "numbers"):
        made.append(
            arm(
                f"{problem}-cosine", f"{problem}, cosine rate", ["baseline", *emas, *settings],
                lambda label, lr: 0.8 + gain if label.startswith("sema") else plain[lr],
            )
        )  # fmt: skip
    return made


def test_a_gain_at_one_rate_that_tuning_takes_away() -> None:
    said = contradiction.STUDY.findings(contradiction_arms(0.1, tuned=0.9)).sentences[0]
    assert "At one learning rate, switching is better in 6, worse in 0 and within noise in 0 of 6 cases" in said
    assert "with everything tuned alike it is better in 0, worse in 0 and within noise in 6 of 6 cases" in said


def test_a_gain_that_stays() -> None:
    said = contradiction.STUDY.findings(contradiction_arms(0.15, tuned=0.9)).sentences[0]
    assert "with everything tuned alike it is better in 6" in said


def test_the_rule_is_tested_on_the_problem_left_out() -> None:
    panel = contradiction.STUDY.findings(contradiction_arms(0.1, tuned=0.9)).panels[-1]
    assert "fitted on all problems but one and tested on that" in panel.sentence
    assert "The power that fits is 2 to 2, by the problem left out." in panel.sentence
    assert panel.table is not None
    assert [row[0] for row in panel.table[1]] == ["asked", "numbers"]


def test_problems_follow_what_is_asked() -> None:
    base, _ = plan_study("contradiction", "", {}, {})
    assert set(problems(base)) == {"asked", "wrong-labels", "numbers", "points", "convolutions"}
    own, _ = plan_study("contradiction", "", {}, {"label_noise": "0.2"})
    assert set(problems(own)) == {"asked"}
    large, _ = plan_study("contradiction", "", {"model": "small-resnet"}, {})
    assert set(problems(large)) == {"asked", "wrong-labels"}


@pytest.mark.parametrize("study", ["decay-window", "contradiction"])
def test_every_method_is_tried_at_the_same_rates_from_a_tenth_to_ten_times(study: str) -> None:
    base, arms = plan_study(study, "", {}, {})
    asked = [arm.settings for arm in arms if arm.settings and arm.name.startswith("asked")]
    for settings in asked:
        assert [rate / base.lr[0] for rate in settings.lr] == pytest.approx([0.1, 0.3, 1, 3, 10])
        assert {"baseline", "sema"} <= {method.kind for method in settings.parsed_methods()}
    assert asked
