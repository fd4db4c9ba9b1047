"""The same comparison on labels as they come and on wrong ones, where differences between methods are larger."""

from __future__ import annotations

from typing import Any

from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.study import Arm, vary

SHARE = 0.4
"""Share of the training labels that are made wrong."""


def with_wrong_labels(base: Settings, **changes: Any) -> list[Arm]:
    """Return a comparison, and beside it the same with 40 % wrong training labels.

    There is no second one where the task has no such option or where its labels were chosen by the user.

    Args:
        base: The settings asked for.
        changes: What the comparison changes of them.
    """
    where = f"{base.model} on {base.data}"
    arms = [Arm("as-asked", where, vary(base, **changes))]
    if base.task == "classification" and not {"label_noise", "label_file"} & set(base.task_options):
        noisy = vary(base, {"label_noise": SHARE}, **changes)
        arms.append(Arm("wrong-labels", f"{where}, {SHARE:.0%} wrong labels".replace("%", " %"), noisy))
    return arms
