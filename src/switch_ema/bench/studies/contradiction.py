"""One paper says that switching helps, the other that it hurts: both settings side by side, everything tuned alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, Results, paired_difference, spread
from switch_ema.bench.studies.disguise import Case, Tested, leave_one_out
from switch_ema.bench.studies.problems import ASKED, WRONG_LABELS, problems
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.tuned import Standing, best, standing
from switch_ema.bench.studies.words import apart, at_edges, hanging
from switch_ema.bench.wording import count, decimals_for, show_difference, show_spread

_BUFFERS = "use_buffers=false"  # as the Switch EMA paper's code; averaged over few epochs they are far behind
SETTINGS = {
    "mild": f"sema:decay=window 0.3 epochs,{_BUFFERS}",
    "Switch EMA paper's": f"sema:decay=window 2 epochs,{_BUFFERS}",
    "EMA-of-weights paper's": f"sema:decay=window 6.4 epochs,{_BUFFERS}",
}
"""Windows in epochs: 0.999 at 500 steps an epoch is 2 epochs, 0.992 every 16 of 313 steps is 6.4.

BatchNorm statistics are those of the model in training.
"""
_EMAS = (f"ema:decay=window 0.3 epochs,{_BUFFERS}", f"ema:decay=window 2 epochs,{_BUFFERS}")
_SCHEDULES = ("cosine", "constant")


def _arms(base: Settings) -> list[Arm]:
    methods = ",".join(["baseline", *_EMAS, *SETTINGS.values()])
    arms = []
    for name, (title, asked) in problems(base).items():
        for schedule in _SCHEDULES if name in (ASKED, WRONG_LABELS) else _SCHEDULES[:1]:
            settings = vary(asked, methods=methods, schedule=schedule, lr=rates(asked))
            arms.append(Arm(f"{name}-{schedule}", f"{title}, {schedule} rate", settings))
    return arms


def _findings(arms: Sequence[Reading]) -> Findings:
    grouped: dict[str, dict[str, Reading]] = {}
    for arm in arms:
        problem, schedule = arm.name.rsplit("-", 1)
        grouped.setdefault(problem, {})[schedule] = arm
    panels, table, cases, notes = [], [], [], []
    for found in grouped.values():
        panel, rows, hang = _tuned(found)
        panels.append(panel)
        table += rows
        notes += hang
        cases += [case for arm in found.values() for case in _cases(arm)]
    tested = leave_one_out(cases)
    rule = _rule(cases, tested)
    tally = _tally(table)
    head = ["Problem", "Setting", "At one rate, − plain", "Tuned, − tuned plain", "Tuned, − tuned EMA"]
    rows = [row[:5] for row in table]
    overall = Panel("All problems", tally, _HOW, table=(head, rows))
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings([tally, rule.sentence], [overall, *panels, rule], notes + edges)


_HOW = (
    "At one rate: the rate in the middle of the grid and the cosine schedule for both, as a paper that adds switching "
    "to a recipe would report it. Tuned: learning rate and, in the first two problems, schedule (cosine, constant) "
    "chosen on validation, for every method from the same grid."
)


def _tuned(found: Mapping[str, Reading]) -> tuple[Panel, list[tuple[object, ...]], list[str]]:
    """Return what came out of one problem, a row for each setting (cells of the table, two judgements), and notes."""
    trained = {schedule: arm.trained for schedule, arm in found.items()}
    first = next(iter(found.values()))
    results, title = first.trained, _problem(first)
    higher = results.higher_is_better
    baseline = best(standing(each, BASELINE, schedule) for schedule, each in trained.items())
    ema = best(standing(each, label, schedule) for schedule, each in trained.items() for label in _EMAS)
    decimals = decimals_for([baseline.spread.mean])
    middle = results.lrs[len(results.lrs) // 2]
    rows: list[tuple[object, ...]] = []
    standings: dict[str, Standing] = {}
    said, series = [], [_over_rates("plain training", results, BASELINE, 0)]
    for place, (name, label) in enumerate(SETTINGS.items(), start=1):
        own = best(standing(each, label, schedule) for schedule, each in trained.items())
        at_one = paired_difference(results.at(label, middle, "test"), results.at(BASELINE, middle, "test"))
        standings[f"sema, {name}"] = own
        gain, gain_ema = own.minus(baseline), own.minus(ema)
        kept = next(method["retained_fraction"] for method in first.run["methods"] if method["label"] == label)
        rows.append(
            (title, f"{name} ({100 * kept:.0f} % kept)", show_difference(at_one, decimals),
             show_difference(gain, decimals), show_difference(gain_ema, decimals), at_one.judge(higher),
             gain.judge(higher))
        )  # fmt: skip
        said.append(apart(f"the {name} setting", "tuned plain training", gain, higher, decimals))
        series.append(_over_rates(f"sema, {name}", results, label, place))
    metric = f"test {results.metric}"
    plot = lines(f"Over the rate, cosine: {metric}", "learning rate", metric, series, log_x=True)
    chosen = [("plain training", baseline), (ema.label, ema), *standings.items()]
    table = [(name, each.arm, f"{each.lr:g}", show_spread(each.spread, decimals)) for name, each in chosen]
    panel = Panel(title, f"{title}: {'; '.join(said)}.", "", [plot], (["Tuned", "Schedule", "Rate", "Test"], table))
    against = [(f"{title}, {name[len('sema, ') :]}", own, baseline) for name, own in standings.items()]
    return panel, rows, hanging(against, higher)


def _problem(arm: Reading) -> str:
    """Return the title of its problem."""
    return arm.title.rpartition(", ")[0]


def _over_rates(name: str, results: Results, label: str, place: int) -> Series:
    found = [spread(results.at(label, lr, "test").values()) for lr in results.lrs]
    return Series.of(name, list(results.lrs), found, place)


def _tally(table: Sequence[tuple[object, ...]]) -> str:
    """Count what a paper would report at one rate, and what is left when all is tuned."""

    def counted(column: int) -> str:
        judged = [row[column] for row in table]
        if all(each == "unknown" for each in judged):
            return "cannot be told from one seed"
        return (
            f"is better in {judged.count('better')}, worse in {judged.count('worse')} and within noise in "
            f"{judged.count('unclear')} of {len(judged)} cases"
        )

    return f"At one learning rate, switching {counted(5)}; with everything tuned alike it {counted(6)}."


def _cases(arm: Reading) -> list[Case]:
    results, cases = arm.trained, []
    sign = 1 if results.higher_is_better else -1
    means = {lr: spread(results.at(BASELINE, lr, "test").values()).mean for lr in results.lrs}
    curve = {lr: sign * mean for lr, mean in means.items() if mean is not None}
    kept = {method["label"]: method["retained_fraction"] for method in arm.run["methods"]}
    for label in SETTINGS.values():
        for lr in results.lrs:
            values = results.at(label, lr, "test")
            value = spread(values.values()).mean
            if value is None or len(curve) < 2 or lr * kept[label] < min(curve):
                continue
            judged = paired_difference(values, results.at(BASELINE, lr, "test")).judge(True)
            clear = judged in ("better", "worse")
            cases.append(Case(_problem(arm), curve, lr, kept[label], sign * value, clear))
    return cases


def _rule(cases: Sequence[Case], tested: Sequence[Tested]) -> Panel:
    """Say whether plain training at the rate times a power of the share kept ends where switching ends."""
    title = "A learning-rate cut in disguise?"
    clear, right = sum(each.clear for each in tested), sum(each.right for each in tested)
    if not clear:
        return Panel(title, "No case is clear enough to test a rule on.", _RULE)
    helped = sum(each.helped for each in tested)
    usual = max(helped, clear - helped)
    powers = [each.power for each in tested]
    error = fmean(each.error for each in tested)
    unchanged = fmean(each.error_unchanged for each in tested)
    sentence = (
        "Rule, fitted on all problems but one and tested on that: Switch EMA ends where plain training at the rate "
        f"times a power of the share kept ends. The power that fits is {min(powers):g} to {max(powers):g}, by the "
        f"problem left out. The direction is right in {right} of {count(clear, 'clear case')} (always saying the more "
        f"frequent one: {usual}), which asks no more than whether plain training gains or loses at lower rates; the "
        f"error is {error:.2f} of the range of plain training over the rates, against {unchanged:.2f} for saying that "
        "switching does nothing."
    )
    head = ["Left out", "Power fitted on the others", "Clear cases", "Direction right", "Switching helped", "Error",
            "Error of saying nothing happens"]  # fmt: skip
    rows = [
        (t.problem, f"{t.power:g}", t.clear, t.right, t.helped, f"{t.error:.2f}", f"{t.error_unchanged:.2f}")
        for t in tested
    ]
    return Panel(title, sentence, _RULE, table=(head, rows))


_RULE = (
    "A case is one setting at one rate of one problem and schedule, if plain training was also tried as low as the "
    "rate times the share kept; it is clear if its 95 % interval against plain training at the same rate leaves out "
    "zero. With power 1, switching would be a cut of the rate by the share that a switch keeps; with 0, nothing."
)

STUDY = Study(
    question="When does switching help, when does it hurt, and is it a learning-rate cut in disguise?",
    claims=(
        Claim("Switch EMA (2402.09240)", "Copying the average into the model after each epoch gives a better trade-off "
              "of flatness and sharpness and faster convergence, at no extra cost.", "V-text"),
        Claim("EMA of weights (2411.18704)", "The same with decay 0.992 every 16 steps hurts: ResNet-18 on CIFAR-100 "
              "ends at 74.47 instead of 75.83 %.", "V-text"),
        Claim("both", "Of an epoch's progress a switch keeps 21 % in the first paper's configurations (0.999, 500 "
              "steps) and 8 % in the second's.", "derived"),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "10", "seeds": "3", "lr": "0.05", "eval_every": "5"},
    options={},
    data_options=FOR_DIGITS,
    recipe="cifar10-resnet18",
    arms=_arms,
    findings=_findings,
)  # fmt: skip
