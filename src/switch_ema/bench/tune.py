"""A search for decay and switch interval: trials judged on validation, and the best trained again on fresh seeds.

The best of many trials looks better than it is, since luck took part in choosing it. So what is claimed of it comes
from a comparison with plain training and the learning-rate control on seeds that no trial has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.compare import Progress, compare, look, make_fabric
from switch_ema.bench.files import is_free, refuse_other, write_sealed
from switch_ema.bench.integrity import read_sealed
from switch_ema.bench.machine import threads
from switch_ema.bench.methods import Method
from switch_ema.bench.plan import plan
from switch_ema.bench.progress import Silent
from switch_ema.bench.request import as_asked, make_task
from switch_ema.bench.results import Store, read_run
from switch_ema.bench.sampling import ask, completed, open_study
from switch_ema.bench.searchspace import method_at, read_space
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results, Spread, spread
from switch_ema.bench.studies.study import vary
from switch_ema.bench.timing import Estimate
from switch_ema.errors import FieldError, InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from optuna.study import Study

FILE = "tune.json"
"""The record of a search, in its folder."""
FIRST_SEED = 1000
"""Seeds of trials begin here; comparisons use those below."""


@dataclass(frozen=True)
class Search:
    """What is asked.

    Attributes:
        base: How it is trained; `seeds` is the number of fresh seeds on which the best is trained again.
        trials: Number of trials.
        trial_seeds: Seeds of each trial.
        decay: Range of the decay, as text; None for the default.
        switch_every: Range of the steps between switches, as text; None for the default.
    """

    base: Settings
    trials: int
    trial_seeds: int
    decay: str | None = None
    switch_every: str | None = None

    def asked(self) -> dict[str, Any]:
        """Return it as plain values."""
        ranges = {"decay": self.decay, "switch_every": self.switch_every}
        return as_asked(self.base) | {"trials": self.trials, "trial_seeds": self.trial_seeds} | ranges


@dataclass(frozen=True)
class Trial:
    """A trial that was trained.

    Attributes:
        label: Label of its method.
        window: 1 / (1 - decay), in steps.
        interval: Steps from one switch to the next.
        lr: Its learning rate.
        val: Headline metric on validation at the last epoch, over the trial's seeds.
        test: The same on test; nothing is chosen by it.
    """

    label: str
    window: float
    interval: int
    lr: float
    val: Spread
    test: Spread


def check_search(search: Search, out: Path) -> bool:
    """Refuse everything that can be refused without loading torch.

    Args:
        search: What is asked.
        out: The folder.

    Returns:
        Whether the search is finished already.

    Raises:
        InputError: A value is wrong, or the folder holds something else.
    """
    for field, value in (("trials", search.trials), ("trial_seeds", search.trial_seeds)):
        if value < 1:
            raise FieldError(field, f"{value}: write at least 1")
    if search.base.devices != 1:
        raise FieldError("devices", f"{search.base.devices}: a search trains on one device; leave it out")
    if search.base.optimizer == "schedulefree":
        raise FieldError("optimizer", "schedulefree: it keeps weights of its own, which switches would not reach")
    if is_free(out):
        return False
    if not (out / FILE).is_file():
        raise InputError(f"--out {out} holds something else than a search; choose another --out")
    refuse_other(out, "search", read_record(out)["asked"], search.asked())
    final = Store(out / "final")
    return final.run_path.exists() and final.is_finished()


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of a search.

    Raises:
        InputError: The folder holds none, or it is damaged.
    """
    try:
        record = read_sealed(out / FILE)
        return record | {"asked": dict(record["asked"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out / FILE} is damaged; delete the folder or choose another --out") from None


def tune(
    search: Search,
    out: Path,
    command: str,
    tell: Callable[[str], None],
    progress: Callable[[], AbstractContextManager[Progress]],
) -> None:
    """Search, or do what is left of it: ``trials/`` and ``optuna.db`` keep the trials, ``final/`` the comparison.

    Args:
        search: What is asked, checked by `check_search`.
        out: The folder.
        command: The command line, for the record.
        tell: Is told of every trial.
        progress: Makes one that is told how the last comparison goes on.

    Raises:
        InputError: The data or a range turn out to be wrong.
    """
    with Store(out).locked():
        with threads(search.base):
            best = _search(search, out, command, tell)
        final = final_settings(search, best)
        tell(f"the best is trained again, beside plain training, on {final.seeds} fresh seeds")
        with progress() as told:
            compare(final, out / "final", command, told)


def final_settings(search: Search, best: str) -> Settings:
    """Return the comparison that says what the best is worth: its average alone and its control beside it."""
    decay = best.removeprefix("sema:").split(",")[0]
    return vary(search.base, methods=f"baseline,ema:{decay},{best}", control=True)


def _search(search: Search, out: Path, command: str, tell: Callable[[str], None]) -> str:
    """Train what is left of the trials, and return the label of the best."""
    fabric = make_fabric(search.base)
    about = look(search.base, fabric)
    space = read_space(search.decay, search.switch_every, about["steps_per_epoch"] * search.base.epochs)
    store = Store(out / "trials")
    store.folder.mkdir(exist_ok=True)
    if not (out / FILE).exists():
        write_sealed(out / FILE, {"command": command, "asked": search.asked()})
    if not store.run_path.exists():
        store.begin({"asked": as_asked(search.base), **about, "methods": [], "trajectories": []})
    study = open_study(out, about["metrics"][0]["higher_is_better"])
    before = len(completed(study))
    estimate = Estimate(search.trials - before)
    for number in range(before, search.trials):
        trial = ask(study, space, search.base.lr, about["steps_per_epoch"])
        method, lr = method_at(trial.params), trial.params["lr"]
        found = _train(search, method, lr, store, fabric, about)
        study.tell(trial, _worst(found, study) if found.val.mean is None or found.val.diverged else found.val.mean)
        estimate.count(1)
        left = estimate.left()
        value = "diverged" if found.val.mean is None else f"{found.val.mean:.4g}"
        tell(f"[{number + 1}/{search.trials}] {method.label}: validation {value}{', ' * bool(left)}{left}")
    return method_at(study.best_params).label


def _worst(found: Trial, study: Study) -> float:
    """Return what a trial counts that diverged at one of its seeds."""
    return -math.inf if study.direction.name == "MAXIMIZE" else math.inf


def _train(search: Search, method: Method, lr: float, store: Store, fabric: Fabric, about: Mapping[str, Any]) -> Trial:
    """Train a trial on its seeds, or what is left of it."""
    from switch_ema.bench.train import Run, run_trajectory

    method = replace(method, schedule=search.base.schedule)
    settings = search.base.model_copy(update={"keep_weights": "none"})
    for trajectory in plan([method], [lr], range(FIRST_SEED, FIRST_SEED + search.trial_seeds)):
        if trajectory.name not in store.done():
            task = make_task(settings, trajectory.seed)
            run = Run(fabric, task, trajectory, settings, about["steps_per_epoch"], store.folder)
            run_trajectory(run, store, Silent().epoch)
    return next(each for each in read_trials(store.folder) if (each.label, each.lr) == (method.label, lr))


def read_trials(folder: Path) -> list[Trial]:
    """Return what was trained, in the order of training.

    Args:
        folder: The folder ``trials/`` of a search.

    Raises:
        InputError: It is damaged.
    """
    run, rows = read_run(folder)
    pairs = dict.fromkeys((row["method"], float(row["lr"])) for row in rows)
    results = Results.from_rows({**run, "methods": [{"label": label} for label, _ in pairs]}, rows)
    return [_read_trial(results, label, lr) for label, lr in pairs]


def _read_trial(results: Results, label: str, lr: float) -> Trial:
    texts = dict(option.split("=") for option in label.removeprefix("sema:").split(","))
    interval = int(texts["switch_every"].split()[0])
    val, test = (spread(results.at(label, lr, split).values()) for split in ("val", "test"))
    return Trial(label, 1 / (1 - float(texts["decay"])), interval, lr, val, test)
