"""What came of a search: sentences, a table, plain data, and the page; a pure function of the folder's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from switch_ema.bench import sections
from switch_ema.bench.files import write_json, write_text
from switch_ema.bench.markup import join, table, tag
from switch_ema.bench.page import Part, build_page, figure, plot_data
from switch_ema.bench.plots import Plot
from switch_ema.bench.results import read_run
from switch_ema.bench.stats import Results, Spread, spread
from switch_ema.bench.summary import Summary, summarize
from switch_ema.bench.tune import Trial, read_record, read_trials
from switch_ema.bench.wording import count, decimals_for, show, show_spread

HEAD = ("method", "learning rate", "validation", "test")
WHY = """
The search chose on validation alone. Of many trials the best is partly the luckiest, so what it is worth is read from
the comparison on fresh seeds, not from the trial.
"""


@dataclass(frozen=True)
class Outcome:
    """What came of a search.

    Attributes:
        metric: The headline metric.
        trials: Every trial, in the order of training.
        best: The best on validation.
        again: Validation of the best when it was trained again on fresh seeds, at its own best rate.
        final: The comparison on fresh seeds.
        sentences: What it means.
    """

    metric: str
    trials: Sequence[Trial]
    best: Trial
    again: Spread
    final: Summary
    sentences: Sequence[str]


def read_outcome(out: Path) -> Outcome:
    """Read what came of a finished search.

    Args:
        out: Its folder.

    Raises:
        InputError: A file is missing or damaged.
    """
    return _read_outcome(out, read_record(out)["asked"]["trials"])


def _read_outcome(out: Path, tries: int) -> Outcome:
    run, rows = read_run(out / "final")
    final, trials = summarize(run, rows), read_trials(out / "trials")
    [chosen] = [row for row in final.rows if row.switches]
    tried = [trial for trial in trials if trial.label == chosen.label]
    sign = -1 if final.higher_is_better else 1
    best = min(tried, key=lambda trial: sign * trial.val.mean if trial.val.mean is not None else float("inf"))
    again = spread(Results.from_rows(run, rows).at(chosen.label, chosen.lr, "val").values())
    return Outcome(final.metric, trials, best, again, final, _sentences(final, best, again, tries))


def _sentences(final: Summary, best: Trial, again: Spread, tries: int) -> list[str]:
    places = final.decimals
    seeds = max(row.test.n + row.diverged for row in final.rows)
    return [
        f"Best of {count(tries, 'trial')} on validation: {best.label} at learning rate {best.lr:g}; validation "
        f"{final.metric} {show_spread(best.val, places)}, test {show_spread(best.test, places)} "
        f"({count(best.val.n, 'seed')}).",
        f"Trained again on {count(seeds, 'fresh seed')} its validation {final.metric} is {show(again.mean, places)}: "
        "the trial's own value was chosen, this one was not.",
        *final.sentences,
    ]


def write_outcome(out: Path) -> tuple[Outcome, Path]:
    """Write ``report.html`` and ``tuned.json`` of a finished search, and return what they say and the page's path.

    Args:
        out: Its folder.

    Raises:
        InputError: A file is missing or damaged.
    """
    record = read_record(out)
    asked = record["asked"]
    found = _read_outcome(out, asked["trials"])
    write_json(out / "tuned.json", asdict(found))
    plots = _plots(found)
    answer = tag("div", join(tag("p", sentence) for sentence in found.sentences), class_="answer")
    link = tag("p", tag("a", "The comparison on fresh seeds", href="final/report.html"))
    trials = join([*(figure(plot, number) for number, plot in enumerate(plots)),
                   table("Trials", HEAD, trial_rows(found), words=(0,))])  # fmt: skip
    command = tag("p", tag("code", record["command"]), class_="command")
    page = build_page(
        eyebrow="search",
        title=f"Which decay and switch interval suit {asked['task']} on {asked['data']}?",
        facts=" · ".join([asked["model"], count(asked["trials"], "trial"), count(asked["epochs"], "epoch")]),
        parts=[
            Part("result", "Result", join([answer, sections.notes(found.final.notes), tag("p", WHY), link])),
            Part("trials", "Trials", trials),
            Part("record", "Settings", join([command, sections.settings(asked)])),
        ],
        data=plot_data(plots),
        script="study.js",
    )
    path = out / "report.html"
    write_text(path, page)
    return found, path


def trial_rows(found: Outcome) -> list[tuple[object, ...]]:
    """Return the table of the trials, the best first."""
    places = decimals_for(trial.val.mean for trial in found.trials)
    worst = float("-inf") if found.final.higher_is_better else float("inf")
    ranked = sorted(
        found.trials,
        key=lambda trial: worst if trial.val.mean is None else trial.val.mean,
        reverse=found.final.higher_is_better,
    )
    return [
        (trial.label, f"{trial.lr:g}", show_spread(trial.val, places), show_spread(trial.test, places))
        for trial in ranked
    ]


def _plots(found: Outcome) -> list[Plot]:
    """Draw validation against each of the two, every trial a point."""
    axes = (
        ("Window of the average, 1 / (1 - decay), in steps", [trial.window for trial in found.trials]),
        ("Steps from one switch to the next", [float(trial.interval) for trial in found.trials]),
    )
    values = [trial.val.mean for trial in found.trials]
    places = decimals_for(values)
    plots = []
    for name, x in axes:
        trace: dict[str, Any] = {
            "x": x, "y": values, "mode": "markers", "name": "trial", "meta": {"series": 1},
            "text": [trial.label for trial in found.trials],
        }  # fmt: skip
        layout = {"xaxis": {"title": {"text": name}, "type": "log"}, "yaxis": {"title": {"text": found.metric}}}
        rows = [(f"{at:.4g}", show(value, places)) for at, value in zip(x, values, strict=True)]
        plots.append(Plot(f"Validation {found.metric}", [trace], layout, [name, f"validation {found.metric}"], rows))
    return plots
