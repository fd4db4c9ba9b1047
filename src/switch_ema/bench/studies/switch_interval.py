"""How often should training be switched onto the average?"""

from __future__ import annotations

from collections.abc import Sequence

from switch_ema.bench.plots import Series, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE
from switch_ema.bench.studies.labels import with_wrong_labels
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates
from switch_ema.bench.studies.tuned import Standing, best, standing
from switch_ema.bench.studies.words import apart, at_edges
from switch_ema.bench.wording import decimals_for, show_difference, show_spread

IN_EPOCHS = (0.5, 1.0, 2.0, 5.0)
IN_STEPS = (2,)
_SAME_WINDOW, _SAME_SHARE = "window of one epoch", "window as long as the interval"


def _label(interval: float, unit: str, kind: str) -> str:
    window = "1 epoch" if kind == _SAME_WINDOW else f"{interval:g} {unit}"
    return f"sema:decay=window {window},switch_every={interval:g} {unit}"


def _intervals() -> list[tuple[float, str]]:
    return [*((float(steps), "steps") for steps in IN_STEPS), *((epochs, "epochs") for epochs in IN_EPOCHS)]


def _arms(base: Settings) -> list[Arm]:
    labels = {_label(*interval, kind): None for kind in (_SAME_WINDOW, _SAME_SHARE) for interval in _intervals()}
    return with_wrong_labels(base, methods=",".join(["baseline", "ema", *labels]), lr=rates(base))


def _findings(arms: Sequence[Reading]) -> Findings:
    panels = [_panel(arm) for arm in arms]
    edges = at_edges({arm.title: arm.trained for arm in arms})
    return Findings([panel.sentence for panel in panels], panels, edges)


def _panel(arm: Reading) -> Panel:
    results, higher = arm.trained, arm.trained.higher_is_better
    per_epoch = int(arm.run["steps_per_epoch"])
    baseline, ema = standing(results, BASELINE), standing(results, "ema")
    kept = {method["label"]: method["retained_fraction"] for method in arm.run["methods"]}
    found: dict[str, list[tuple[float, Standing]]] = {}
    for kind in (_SAME_WINDOW, _SAME_SHARE):
        for interval, unit in _intervals():
            epochs = float(f"{interval / per_epoch:.3g}") if unit == "steps" else interval
            found.setdefault(kind, []).append((epochs, standing(results, _label(interval, unit, kind))))
    decimals = decimals_for([baseline.spread.mean])
    told = []
    for kind, entries in found.items():
        chosen = best(each for _, each in entries)
        epochs = next(epochs for epochs, each in entries if each is chosen)
        every = next((each for at, each in entries if at == 1.0), chosen)
        text = apart(f"with a {kind}, a switch every {epochs:g} epochs is best on validation; on test it",
                     "plain training", chosen.minus(baseline), higher, decimals)  # fmt: skip
        if every is not chosen:
            text += f" and {apart('it', 'a switch every epoch', chosen.minus(every), higher, decimals).strip()}"
        told.append(text)
    tried = [at for at, _ in found[_SAME_WINDOW]]
    ends = [min(tried), max(tried)]
    series = [Series("plain training", ends, [baseline.spread.mean] * 2, style=0)]
    series.append(Series("ema", ends, [ema.spread.mean] * 2, style=1))
    for place, (kind, entries) in enumerate(found.items(), start=2):
        rising = sorted(entries, key=lambda entry: entry[0])
        series.append(Series.of(f"sema, {kind}", [at for at, _ in rising], [each.spread for _, each in rising], place))
    plot = lines(f"Test {results.metric}", "epochs from switch to switch", f"test {results.metric}", series, log_x=True)
    rows = [
        (kind, f"{at:g}", f"{kept[each.label]:.1%}", f"{each.lr:g}", show_spread(each.spread, decimals),
         show_difference(each.minus(baseline), decimals))
        for kind, entries in found.items() for at, each in sorted(entries, key=lambda entry: entry[0])
    ]  # fmt: skip
    head = ["Decay", "Epochs", "Kept", "Own rate", f"Test {results.metric}", "− plain training"]
    text = (
        f"{per_epoch} steps in an epoch; every setting at its own best rate. With one window for all, rare switches "
        "keep nearly all of the progress and frequent ones nearly nothing; with a window as long as the interval every "
        "switch keeps about 37 %, more where the interval has few steps."
    )
    return Panel(arm.title, f"{arm.title}: {'; '.join(told)}.", text, [plot], (head, rows))


STUDY = Study(
    question="How often should training be switched onto the average?",
    claims=(
        Claim("Switch EMA (2402.09240)", "Switch after each epoch.", "V-text"),
        Claim("Switch EMA (2402.09240)", "One of the authors' configurations switches every 50 steps, with decay 0.99.",
              "V-fork"),
        Claim("Switch EMA (2402.09240)", "In the released code the condition is inverted: an interval of one epoch "
              "never switches, and longer ones switch in all epochs but each such one.", "V-code"),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "15", "seeds": "4", "lr": "0.05", "eval_every": "5"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)  # fmt: skip
