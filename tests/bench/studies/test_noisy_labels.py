"""Wrong labels: what is learned by heart, what averages gain, what a constant rate changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from switch_ema.bench.request import request
from switch_ema.bench.stats import Cell, Results
from switch_ema.bench.studies.memorised import memorised_at
from switch_ema.bench.studies.noisy_labels import STUDY
from switch_ema.bench.studies.study import Reading
from switch_ema.errors import InputError
from tests.bench.studies.readings import reading

LR = 0.1
Curve = Sequence[float | None]


def results(clean: Curve, wrong: Curve) -> Results:
    curves = {"clean_accuracy": clean, "memorised": wrong}
    cells = {Cell("ema", LR, "train", name): {0: dict(enumerate(curve, start=1))} for name, curve in curves.items()}
    return Results(cells, ("ema",), (LR,), (0,), len(clean), "accuracy", True)


@pytest.mark.parametrize(
    ("clean", "wrong", "expected"),
    [
        ((0.5, 0.8, 1.0), (0.0, 0.1, 0.3), {0: pytest.approx(0.2)}),
        ((0.95, 0.99), (0.04, 0.3), {0: 0.04}),
        ((0.5, 0.9), (0.0, 0.1), {0: pytest.approx(0.1)}),
        ((0.5, 0.8), (0.0, 0.1), {}),
        ((0.5, None, 0.95), (0.0, 0.1, 0.2), {}),
        ((0.5, 0.92, 0.7, 0.95), (0.0, 0.42, 0.1, 0.9), {0: pytest.approx(0.4)}),
    ],
)
def test_the_share_learned_by_heart_at_equal_clean_accuracy(clean: Curve, wrong: Curve, expected: object) -> None:
    assert memorised_at(results(clean, wrong), "ema", LR, 0.9) == expected


def arm(
    name: str,
    share: int,
    heart: Callable[[str, int], Curve] | None,
    test: dict[str, Curve],
    seeds: int = 4,
    suffix: str = "",
) -> Reading:
    """Make an arm whose methods learn the right labels alike: 0.8, 0.9, 1.0."""

    def uneven(label: str, seed: int) -> Curve:
        more = seed / 1000 + (label != "baseline") * seed**2 / 1e4  # lest the seeds tie
        return [value if value is None else value + more for value in test[label]]

    curves = {(label, LR, seed): (uneven(label, seed),) * 2 for label in test for seed in range(seeds)}
    found = reading(curves, name=name, title=f"net, {share} % wrong labels{suffix}")
    if heart is None:
        return found
    cells = dict(found.trained.cells)
    for label in test:
        for metric, of in (("clean_accuracy", lambda *_: (0.8, 0.9, 1.0)), ("memorised", heart)):
            by_seed = {seed: dict(enumerate(of(label, seed), start=1)) for seed in range(seeds)}
            cells[Cell(label, LR, "train", metric)] = by_seed
    return replace(found, results=replace(found.trained, cells=cells))


def heart(plain: float, ema: float) -> Callable[[str, int], Curve]:
    return lambda label, seed: [
        (plain if label == "baseline" else ema) * k + seed**2 / 1e4 * (label != "baseline") for k in (1, 2, 3)
    ]


TEST: dict[str, Curve] = {"baseline": (0.5, 0.9, 0.7), "ema": (0.5, 0.91, 0.8)}


def test_gains_at_the_last_epoch_and_stopped_early() -> None:
    said = STUDY.findings([arm("wrong-0", 0, None, TEST)]).sentences
    assert len(said) == 1
    assert said[0].startswith(
        "net, 0 % wrong labels, against plain training at the last epoch, better beyond noise: ema (+0.100"
    )
    assert "; all stopped early, better beyond noise: ema (+0.010" in said[0]


def test_an_average_that_learns_less_by_heart() -> None:
    heard = STUDY.findings([arm("wrong-0.4", 40, heart(0.2, 0.1), TEST)]).sentences[1]
    assert "When plain training has learned 90 % of the right labels it has learned 40.0 % of the wrong" in heard
    assert "at their 90 %: fewer beyond noise: ema (−0.200, " in heard
    assert "at their 98 %: fewer beyond noise: ema (−0.280, " in heard
    assert "At the last epoch it has learned 60.0 %; fewer beyond noise: ema (−0.300, " in heard


def test_an_average_that_learns_more_by_heart() -> None:
    heard = STUDY.findings([arm("wrong-0.4", 40, heart(0.1, 0.2), TEST)]).sentences[1]
    assert "more beyond noise: ema (+0.200, " in heard
    assert "fewer" not in heard


def test_a_constant_rate_is_compared_at_the_same_rate() -> None:
    decayed = arm("wrong-0.4", 40, heart(0.2, 0.1), TEST)
    held = arm("constant", 40, lambda label, seed: [0.1, 0.1, 0.1 + seed**2 / 1e3], TEST, suffix=", constant rate")
    said = STUDY.findings([decayed, held]).sentences[-1]
    assert said.startswith(
        "net, 40 % wrong labels, plain training at rate 0.1: by wrong labels learned, a constant rate"
    )
    assert "is better than the decayed one (−0.4965, " in said
    assert "by test score, a constant rate is better" not in said


def test_one_seed_and_divergence() -> None:
    one = STUDY.findings([arm("wrong-0.4", 40, heart(0.2, 0.1), TEST, seeds=1)]).sentences
    assert "cannot be told: ema (+0.1000)" in one[0]
    assert "beyond noise" not in " ".join(one)
    dead: dict[str, Curve] = {"baseline": (None,) * 3, "ema": (None,) * 3}
    said = STUDY.findings([arm("wrong-0.4", 40, lambda *_: (None,) * 3, dead)]).sentences
    assert "cannot be told: ema (no common seed)" in said[0]
    assert "never learns 90 % of the right labels" in said[1]


def test_arms_by_share_and_with_a_constant_rate() -> None:
    arms = STUDY.arms(request("classification", {"lr": "0.1"}, {}))
    assert [each.name for each in arms] == ["wrong-0", "wrong-0.2", "wrong-0.4", "wrong-0.6", "constant"]
    options = [each.settings.task_options for each in arms if each.settings]
    assert [each["label_noise"] for each in options] == [0, 0.2, 0.4, 0.6, 0.4]
    assert [each["memorisation"] for each in options] == [False, True, True, True, True]
    last = arms[-1].settings
    assert last
    assert (last.schedule, last.lr) == ("constant", (0.01, 0.03, 0.1, 0.3, 1.0))


def test_a_share_or_a_constant_rate_of_the_user_stays(tmp_path: Path) -> None:
    arms = STUDY.arms(request("classification", {}, {"label_noise": "0.3"}))
    assert [each.name for each in arms] == ["wrong-0.3", "constant"]
    arms = STUDY.arms(request("classification", {"schedule": "constant"}, {"label_noise": "0.3"}))
    assert [each.name for each in arms] == ["wrong-0.3"]
    (tmp_path / "some.pt").write_bytes(b"labels")
    people = STUDY.arms(request("classification", {}, {"label_file": f"{tmp_path / 'some.pt'}:worse_label"}))
    assert [each.title.rpartition("digits, ")[2] for each in people] == [
        "labels that people gave",
        "labels that people gave, constant rate",
    ]


def test_other_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="task regression"):
        STUDY.arms(request("regression", {}, {}))
