"""The noisy quadratic: what switching does where all can be computed, with the chains that confirm it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.study import Arm, Claim, Findings, Measured, Reading, Study
from switch_ema.bench.studies.theory_panels import chains_panel, contraction_panel, stability_panel, variance_panel
from switch_ema.bench.studies.theory_rates import budgets_panel, equal_panel

_EXACT, _CHAINS = "closed-forms", "chains-"


def _arms(base: Settings) -> list[Arm]:
    seeds = [Arm(f"{_CHAINS}{seed}", f"chains of seed {seed}") for seed in range(base.seeds)]
    return [Arm(_EXACT, "closed forms and bounds"), *seeds]


def _measure(arm: Arm, _: object) -> Measured:
    from switch_ema.bench.studies import theory_numbers as numbers

    if arm.name == _EXACT:
        exact = {"settings": numbers.settings(), "bounds": numbers.bounds(), "budgets": numbers.budgets()}
        return Measured(sheets=exact)
    return Measured(sheets={"chains": numbers.chains(int(arm.name.removeprefix(_CHAINS)))})


def _findings(arms: Sequence[Reading]) -> Findings:
    exact = next(arm.sheets for arm in arms if arm.name == _EXACT)
    chains = _pooled([arm.sheets["chains"] for arm in arms if arm.name != _EXACT])
    panels = [
        variance_panel(exact["settings"]),
        contraction_panel(exact["settings"]),
        equal_panel(exact["settings"]),
        budgets_panel(exact["budgets"]),
        stability_panel(exact["bounds"]),
        chains_panel(chains),
    ]
    notes = [
        "A quadratic with noise that does not depend on the weights, a constant learning rate, no momentum: what "
        "switching does to the learning of features, to BatchNorm or under a schedule is not in it.",
        "The equations for EMA and Switch EMA were derived here, not taken from the paper.",
    ]
    return Findings([panel.sentence for panel in panels], panels, notes)


def _pooled(seeds: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Join the chains of all seeds, which are equally many."""
    pooled = []
    for same in zip(*seeds, strict=True):
        variance = math.fsum(each["variance"] for each in same) / len(same)
        error = math.sqrt(math.fsum(each["error"] ** 2 for each in same)) / len(same)
        pooled.append({**same[0], "variance": variance, "error": error})
    return pooled


STUDY = Study(
    question="What does switching do on a noisy quadratic, where all can be computed?",
    claims=(
        Claim(
            "Switch EMA (2402.09240)",
            "A proposition is about the variances of the iterates of SGD, EMA and Switch EMA; by its reviewers, a "
            "condition on the learning rate is missing.",
            "V-2nd",
        ),
        Claim(
            "Switch EMA (2402.09240)",
            "A proposition bounds the errors of the three from above, and concludes that Switch EMA has the least; its "
            "reviewers object that comparing upper bounds proves nothing.",
            "V-2nd",
        ),
        Claim("Switch EMA (2402.09240)", "Switching makes training converge faster, at no extra cost.", "V-text"),
    ),
    task="classification",
    given={"seeds": "10"},
    options={},
    recipe="",
    arms=_arms,
    findings=_findings,
    measure=_measure,
)
