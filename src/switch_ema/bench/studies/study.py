"""What a study is: a question, the comparisons that answer it, what is measured beside them, and what came out.

A study file imports nothing heavy at its head, so that a wrong request is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from switch_ema.bench.settings import Settings
from switch_ema.tasks.catalog import check

if TYPE_CHECKING:
    from switch_ema.bench.plots import Plot
    from switch_ema.bench.results import Row
    from switch_ema.bench.stats import Results
    from switch_ema.bench.studies.trained import Trained

Table = tuple[Sequence[str], Sequence[Sequence[object]]]
"""Headings and rows; the first column names the row."""


@dataclass(frozen=True)
class Claim:
    """What a paper says of the question.

    Attributes:
        source: Authors, title and arXiv number in short, such as ``Switch EMA (2402.09240)``.
        text: What it says.
        evidence: How it is known, by the labels of `switch_ema.recipes.reader.EVIDENCE`.
    """

    source: str
    text: str
    evidence: str


@dataclass(frozen=True)
class Arm:
    """One comparison of a study.

    Attributes:
        name: Its name, fit for a folder.
        title: What it is, in a few words.
        settings: How it is trained; None where nothing is.
    """

    name: str
    title: str
    settings: Settings | None = None


@dataclass(frozen=True)
class Measured:
    """What a study measures of an arm beside its comparison.

    Attributes:
        rows: Numbers.
        sheets: Whatever else its figures need, such as the losses on a grid: plain data by name.
    """

    rows: Sequence[Row] = ()
    sheets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """An arm as it is read back.

    Attributes:
        name: Name of the arm.
        title: What it is.
        run: Content of its ``run.json``; empty where nothing was trained.
        results: Its rows and those that the study measured, by curve; None where nothing was trained.
        measured: Rows that the study measured.
        sheets: Plain data that the study measured.
    """

    name: str
    title: str
    run: Mapping[str, Any]
    results: Results | None
    measured: Sequence[Mapping[str, Any]]
    sheets: Mapping[str, Any]

    @property
    def trained(self) -> Results:
        """Its results, of an arm that was trained."""
        if self.results is None:
            raise TypeError(f"nothing was trained in arm {self.name}")
        return self.results


@dataclass(frozen=True)
class Panel:
    """A section of a study's page.

    Attributes:
        title: Its heading.
        sentence: What is seen, in plain words, made from the numbers.
        text: What is shown and how it is defined.
        plots: Its figures.
        table: Its table.
    """

    title: str
    sentence: str
    text: str = ""
    plots: Sequence[Plot] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Findings:
    """What came out of a study.

    Attributes:
        sentences: The answer in a few plain sentences, made from the numbers.
        panels: Sections with figures.
        notes: What the reader must know before trusting them.
    """

    sentences: Sequence[str]
    panels: Sequence[Panel]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """A question of the papers.

    Attributes:
        question: The question, in one sentence.
        claims: What the papers say of it.
        task: The task, or the recipe, that it is asked on unless told otherwise.
        given: Settings for a CPU, within five minutes on two cores.
        options: Options of the task.
        data_options: Options that suit the data it is asked on unless told otherwise, and go with these alone.
        recipe: The recipe that asks it at paper scale; empty where there is none.
        arms: Makes the comparisons from the settings asked for.
        findings: Makes the answer from what was measured: a pure function.
        measure: Measures more of a trained arm; None where its rows suffice.
    """

    question: str
    claims: Sequence[Claim]
    task: str
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    recipe: str
    arms: Callable[[Settings], Sequence[Arm]]
    findings: Callable[[Sequence[Reading]], Findings]
    measure: Callable[[Arm, Trained | None], Measured] | None = None
    data_options: Mapping[str, Any] = field(default_factory=dict)


def vary(base: Settings, options: Mapping[str, Any] | None = None, **changes: Any) -> Settings:
    """Return settings with some of them changed, checked anew; another task takes over no options of the first.

    Args:
        base: The settings.
        options: Options of the task to change.
        changes: Settings to change.

    Raises:
        InputError: A value is wrong.
    """
    values = base.model_dump() | changes
    chosen = (base.task_options if values["task"] == base.task else {}) | dict(options or {})
    return Settings.of(**values | {"task_options": check(values["task"], values["data"], values["model"], chosen)})


FOR_DIGITS: Mapping[str, Any] = {"val_share": 0.4}
"""A validation part of 575 digits; the usual 144 are nearly all named right at very different learning rates."""

AROUND = (0.1, 0.3, 1, 3, 10)
"""Factors on a learning rate that reach from where all methods train too slowly to where most diverge."""


def rates(base: Settings, factors: Sequence[float] = AROUND) -> tuple[float, ...]:
    """Return learning rates around the one asked for; several that were asked for stay as they are.

    Args:
        base: The settings.
        factors: Factors on the learning rate.
    """
    if len(base.lr) > 1:
        return base.lr
    return tuple(sorted(float(f"{base.lr[0] * factor:.3g}") for factor in factors))
