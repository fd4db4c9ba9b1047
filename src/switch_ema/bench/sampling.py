"""Optuna's part of a search: which point is tried next, kept in a database that outlives the process.

A sampler is made anew for every trial, with a seed that depends on how many are complete: so a search that was broken
off goes on with the very points that it would have tried.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from switch_ema.bench.searchspace import Space
from switch_ema.bench.seeds import derived_seed
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


def open_study(out: Path, higher_is_better: bool) -> Study:
    """Open the database of a search, or make it; trials that were broken off are given up, to be asked for again.

    Args:
        out: The folder of the search.
        higher_is_better: Direction of the metric.

    Raises:
        InputError: The database is damaged.
    """
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState
    from sqlalchemy.exc import DatabaseError
    from sqlalchemy.pool import QueuePool

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = (out / "optuna.db").resolve()
    connect = partial(sqlite3.connect, path, check_same_thread=False)  # in an address ?, % and {} would mean something
    try:
        study = optuna.create_study(
            storage=RDBStorage("sqlite://", {"creator": connect, "poolclass": QueuePool}),
            study_name="sema",
            direction="maximize" if higher_is_better else "minimize",
            load_if_exists=True,
        )
    except (DatabaseError, StorageInternalError):
        raise InputError(f"{path} cannot be read; delete the folder or choose another --out") from None
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have been measured."""
    from optuna.trial import TrialState

    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return trials


def ask(study: Study, space: Space, lrs: Sequence[float], steps_per_epoch: int) -> Trial:
    """Ask for the next point: first the bench's defaults, then what a tree-structured Parzen estimator suggests.

    Args:
        study: The database of the search.
        space: The ranges.
        lrs: The learning rates to choose from.
        steps_per_epoch: Optimizer steps in an epoch.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.samplers import TPESampler

    done = len(completed(study))
    study.sampler = TPESampler(seed=derived_seed(0, "tune", done) % 2**32)
    if not done:
        study.enqueue_trial({**space.start(steps_per_epoch), "lr": lrs[0]})
    return study.ask(
        {
            "window": FloatDistribution(*space.window, log=True),
            "interval": IntDistribution(*space.interval, log=True),
            "lr": CategoricalDistribution(list(lrs)),
        }
    )
