"""How much seeds disagree: intervals over pairs, sentences, and what is measured of networks."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import stdtrit
from torch import Tensor

from switch_ema.bench.request import request
from switch_ema.bench.studies.consistency import STUDY
from switch_ema.bench.studies.pairs import Matrix, between, over_pairs, pair_spread
from switch_ema.bench.studies.study import Arm
from tests.bench.studies.kept import Found, measured, told

DIGITS = request("classification", {}, {})


def random_matrix(seeds: int, rng: np.random.Generator) -> Matrix:
    """Draw values of pairs that share an effect of each seed."""
    effects = rng.normal(size=seeds)
    noise = 0.3 * rng.normal(size=(seeds, seeds))
    matrix = effects[:, None] + effects[None, :] + (noise + noise.T) / 2
    np.fill_diagonal(matrix, 0)
    return [[float(value) for value in row] for row in matrix]


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_is_that_of_leaving_each_seed_out(seeds: int) -> None:
    matrix = random_matrix(seeds, np.random.default_rng(seeds))
    pairs = list(combinations(range(seeds), 2))
    without = [np.mean([matrix[i][j] for i, j in pairs if out not in (i, j)]) for out in range(seeds)]
    mean = np.mean([matrix[i][j] for i, j in pairs])
    error = np.sqrt((seeds - 1) / seeds * np.sum((np.array(without) - mean) ** 2))
    found = over_pairs(matrix)
    assert found.n == seeds
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - stdtrit(seeds - 1, 0.975) * error)
    assert found.high == pytest.approx(mean + stdtrit(seeds - 1, 0.975) * error)


def test_the_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [over_pairs(random_matrix(5, rng)) for _ in range(1000)]
    covered = np.mean([each.low <= 0 <= each.high for each in found if each.low is not None and each.high is not None])
    assert 0.94 < covered < 0.995


def test_few_seeds_and_ties_have_no_interval() -> None:
    assert over_pairs([[0, 0.2], [0.2, 0]]).low is None
    assert over_pairs([[0, 0.2], [0.2, 0]]).mean == 0.2
    assert over_pairs([[0, 0.2, 0.2], [0.2, 0, 0.2], [0.2, 0.2, 0]]).low is None
    assert over_pairs([[0]]).mean is None
    assert pair_spread([[0, 1, 2], [1, 0, 3], [2, 3, 0]]).n == 3
    assert between([[0, 2], [2, 0]], [[0, 0.5], [0.5, 0]]) == [[0, 1.5], [1.5, 0]]


def sheet(seeds: list[int], churn: float) -> dict[str, Any]:
    """Make matrices whose pairs lie closely about a churn."""
    matrix = [[0 if i == j else round(churn + (i + j) ** 2 / 1e4, 6) for j in seeds] for i in seeds]
    return {"seeds": seeds, "churn": matrix, "js": [[value / 2 for value in row] for row in matrix]}


FLAT: Found = {"churn_to_plain": {"baseline": [None] * 4, "ema": [0.05, 0.06, 0.05, 0.05]}}
LESS, SAME = sheet([0, 1, 2, 3], 0.1), sheet([0, 1, 2, 3], 0.2)


def test_an_average_that_disagrees_less() -> None:
    bumpy = LESS | {"churn": [[v + 0.001 * (i + j) for j, v in enumerate(r)] for i, r in enumerate(LESS["churn"])]}
    for i in range(4):
        bumpy["churn"][i][i] = 0
    arm = measured(FLAT, sheets={"last": {"baseline": SAME, "ema": bumpy}, "lowest-loss": {"ema": bumpy}})
    (said,) = STUDY.findings([arm]).sentences
    assert "plain training disagree on 20.1 % of the test examples after the last epoch" in said
    assert "less beyond noise: ema −48 % (−0.0970, 95 % interval −0.1011 to −0.0929)" in said
    assert "All at their lowest" not in said


def test_no_difference() -> None:
    wild = [[0, 0.1, 0.3, 0.2], [0.1, 0, 0.25, 0.3], [0.3, 0.25, 0, 0.1], [0.2, 0.3, 0.1, 0]]
    arm = measured(FLAT, sheets={"last": {"baseline": SAME, "ema": SAME | {"churn": wild}}})
    (said,) = STUDY.findings([arm]).sentences
    assert "no difference beyond noise: ema +" in said


@pytest.mark.parametrize("plain", [[0, 1, 2, 3], [0, 1, 2]])
def test_only_seeds_that_both_have_are_compared(plain: list[int]) -> None:
    of_both = {"baseline": sheet(plain, 0.2), "ema": sheet([0, 1, 3, 2], 0.1)}
    (panel,) = STUDY.findings([measured(FLAT, sheets={"last": of_both})]).panels
    assert panel.table
    row = next(row for row in panel.table[1] if str(row[0]).startswith("ema"))
    assert str(row[2]).startswith("−0.1000")


def test_one_pair_has_no_interval() -> None:
    two = sheet([0, 1], 0.2)
    (panel,) = STUDY.findings([measured(FLAT, sheets={"last": {"baseline": two, "ema": sheet([0, 1], 0.1)}})]).panels
    assert panel.table
    assert panel.table[1][1][2] == "−0.1000, no interval from one pair"
    assert "cannot be told: ema" in panel.sentence


def test_one_seed_has_nothing_to_compare() -> None:
    arm = measured({"churn_to_plain": {"baseline": [None], "ema": [0.1]}}, sheets={})
    (said,) = STUDY.findings([arm]).sentences
    assert said.endswith("it takes two seeds of plain training that end with finite values to compare them.")


def logits_of(classes: list[int]) -> Tensor:
    return 3 * torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_what_is_measured_of_networks() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    said = {
        ("last", "baseline", 0): {"test": (logits_of([0, 1, 2, 0]), labels)},
        ("last", "baseline", 1): {"test": (logits_of([1, 1, 2, 1]), labels)},
        ("last", "ema", 0): {"test": (logits_of([0, 1, 1, 0]), labels)},
        ("last", "ema", 1): {"test": (logits_of([0, 1, 2, 0]) * torch.nan, labels)},
        ("lowest-loss", "ema", 0): {"test": (logits_of([0, 1, 2, 1]), labels)},
    }
    assert STUDY.measure
    found = STUDY.measure(Arm("x", "x", DIGITS), told(DIGITS, said))
    assert found.sheets["last"]["baseline"]["churn"] == [[0, 0.5], [0.5, 0]]
    assert "ema" not in found.sheets["last"]
    rows = {(row.metric, row.method, row.seed): row.value for row in found.rows}
    assert rows["churn_to_plain", "ema", 0] == 0.25
    assert rows["accuracy@lowest-loss", "ema", 0] == 0.75
    assert 0 < (rows["js_to_plain", "ema", 0] or 0) < 0.25 * np.log(2)
    assert len(rows) == 3


def test_arms_keep_the_best_weights() -> None:
    settings = [arm.settings for arm in STUDY.arms(request("classification", {"lr": "0.1"}, {}))]
    assert [each.keep_weights for each in settings if each] == ["best", "best"]
    assert [each.task_options.get("label_noise") for each in settings if each] == [None, 0.4]
