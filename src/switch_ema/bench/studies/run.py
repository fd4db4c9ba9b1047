"""A study from start to end: its comparisons, what is measured beside them, its page. A broken-off one continues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.compare import Progress, compare, prepare
from switch_ema.bench.machine import quiet, threads
from switch_ema.bench.progress import Silent, epochs_left
from switch_ema.bench.request import request
from switch_ema.bench.results import Store
from switch_ema.bench.settings import Settings
from switch_ema.bench.studies.entries import FILE, find_study
from switch_ema.bench.studies.record import MEASURED, arm_folder, begin_study, check_folder, write_measured
from switch_ema.bench.studies.study import Arm, Findings, Measured
from switch_ema.bench.timing import Estimate
from switch_ema.errors import FieldError
from switch_ema.tasks.catalog import find

if TYPE_CHECKING:
    from switch_ema.bench.studies.trained import Trained


def plan_study(
    name: str, recipe: str, given: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Settings, list[Arm]]:
    """Make the comparisons of a study.

    Args:
        name: Name of the study.
        recipe: The task or recipe to ask it on; empty for the study's own, of CPU size.
        given: Settings that were asked for, as texts; None stands for "not given".
        options: Options of the task that were asked for.

    Returns:
        The settings that all comparisons vary, and the comparisons.

    Raises:
        InputError: A name or value is wrong, or the study sets it itself.
    """
    study = find_study(name)
    asked = {key: value for key, value in given.items() if value is not None}
    if recipe:
        base = request(recipe, asked, options)
    else:
        own = study.given.get("data", find(study.task).default_data)
        suited = study.data_options if asked.get("data", own) == own else {}
        base = request(study.task, {**study.given, **asked}, {**study.options, **suited, **options})
    arms = list(study.arms(base))
    trained = [arm.settings for arm in arms if arm.settings]
    for field in asked.keys() - {"lr"}:  # rates are taken relative to the one asked for
        if trained and all(getattr(each, field) != getattr(base, field) for each in trained):
            raise FieldError(field, f"{asked[field]}: study {name} sets it itself; leave it out")
    return base, arms


def run_study(
    name: str,
    base: Settings,
    arms: Sequence[Arm],
    out: Path,
    command: str,
    tell: Callable[[str], None],
    progress: Callable[[], AbstractContextManager[Progress]],
    jobs: int = 1,
) -> tuple[Findings, Path]:
    """Run a study, or what is left of it.

    Args:
        name: Name of the study.
        base: The settings that its comparisons vary.
        arms: Its comparisons.
        out: The folder of the study.
        command: The command line, for the record.
        tell: Is told what begins.
        progress: Makes one that is told how a comparison goes on, where they run one after the other.
        jobs: Comparisons that run side by side, each in a process of its own.

    Returns:
        What came out, and the path of the report page.

    Raises:
        InputError: The folder holds something else, or the data turn out to be wrong.
    """
    from switch_ema.bench.studies.report import write_study

    check_folder(out, name, base)
    for arm in arms:
        if arm.settings:
            prepare(arm.settings, arm_folder(out, arm))
    with Store(out).locked():
        if not (out / FILE).exists():
            begin_study(out, name, base, arms, command)
        if jobs > 1:
            _side_by_side(name, arms, out, command, tell, jobs)
        else:
            _one_by_one(name, arms, out, command, tell, progress)
        return write_study(out)


def _one_by_one(
    name: str,
    arms: Sequence[Arm],
    out: Path,
    command: str,
    tell: Callable[[str], None],
    progress: Callable[[], AbstractContextManager[Progress]],
) -> None:
    work = _work(name, arms, out)
    estimate = Estimate(sum(work.values()))
    for number, arm in enumerate(arms, start=1):
        left = estimate.left()
        tell(f"[{number}/{len(arms)}] {arm.title}{f' ({left} in all)' if left else ''}")
        with progress() as told:
            _run_arm(name, arm, out, command, told)
        estimate.count(work[arm.name])


def _side_by_side(
    name: str, arms: Sequence[Arm], out: Path, command: str, tell: Callable[[str], None], jobs: int
) -> None:
    """Run arms in processes of their own; after an error the others end what they have begun."""
    work = _work(name, arms, out)
    estimate = Estimate(sum(work.values()))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:  # torch's threads do not survive a fork
        running = {pool.submit(_run_arm, name, arm, out, command, Silent()): arm for arm in arms}
        try:
            for number, done in enumerate(as_completed(running), start=1):
                done.result()
                estimate.count(work[running[done].name])
                tell(f"[{number}/{len(arms)}] {running[done].title} ({estimate.times()})")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _work(name: str, arms: Sequence[Arm], out: Path) -> dict[str, int]:
    """Return the epochs that each arm still has to train; what is measured after them counts as one."""
    measures = find_study(name).measure is not None
    return {
        arm.name: (epochs_left(arm.settings, Store(arm_folder(out, arm))) if arm.settings else 0)
        + (measures and not (arm_folder(out, arm) / MEASURED).exists())
        for arm in arms
    }


def _run_arm(name: str, arm: Arm, out: Path, command: str, progress: Progress) -> None:
    """Train and measure what is left of an arm."""
    folder = arm_folder(out, arm)
    if arm.settings and not prepare(arm.settings, folder):
        quiet()
        compare(arm.settings, folder, command, progress)
    measure = find_study(name).measure
    if measure and not (folder / MEASURED).exists():
        write_measured(folder, _measured(measure, arm, folder))


def _measured(measure: Callable[[Arm, Trained | None], Measured], arm: Arm, folder: Path) -> Measured:
    if arm.settings is None:
        return measure(arm, None)
    from switch_ema.bench.studies.trained import Trained

    with threads(arm.settings):
        return measure(arm, Trained(folder, arm.settings))
