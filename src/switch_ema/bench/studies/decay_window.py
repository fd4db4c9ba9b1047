"""Which decay goes with which interval? Every pair at its own learning rate, beside plain training at any rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import spearmanr

from switch_ema.bench.plots import Plot, Series, heatmap, lines
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import BASELINE, best_rate, spread
from switch_ema.bench.studies.problems import CONVOLUTIONS, POINTS, problems
from switch_ema.bench.studies.study import FOR_DIGITS, Arm, Claim, Findings, Panel, Reading, Study, rates, vary
from switch_ema.bench.studies.tuned import Standing, best, standing
from switch_ema.bench.studies.words import apart, at_edges, hanging
from switch_ema.bench.wording import decimals_for, show_difference, show_spread, signed

WINDOWS = (0.3, 1.0, 3.0)
INTERVALS = (0.5, 1.0, 3.0)
BATCHNORM_WINDOWS = (0.3, 1.0, 3.0)
EMA_WINDOWS = (0.1, *WINDOWS, 6.0)
_AUTO_EMA, _AUTO_SEMA = "ema:decay=auto", "sema:decay=auto,switch_every=auto"
_X, _Y = "switch every ... epochs", "window of the average, epochs"
_BATCHNORM = "batchnorm"


def setting(window: float, interval: float) -> str:
    """Return the label of Switch EMA with a window and an interval in epochs."""
    return f"sema:decay=window {window:g} epochs,switch_every={interval:g} epochs"


def _ema(window: float) -> str:
    return f"ema:decay=window {window:g} epochs"


def _arms(base: Settings) -> list[Arm]:
    pairs = [setting(window, interval) for window in WINDOWS for interval in INTERVALS]
    methods = ",".join(["baseline", *map(_ema, EMA_WINDOWS), _AUTO_EMA, *pairs, _AUTO_SEMA])
    arms = [
        Arm(name, title, vary(asked, methods=methods, lr=rates(asked)))
        for name, (title, asked) in problems(base).items()
        if name not in (POINTS, CONVOLUTIONS)
    ]
    return [*arms, Arm(_BATCHNORM, "BatchNorm statistics of Switch EMA", _with_batchnorm(base))]


def _with_batchnorm(base: Settings) -> Settings:
    """Return a comparison of a network with BatchNorm, whose statistics are averaged or those of the online model."""
    kinds = [
        f"sema:decay=window {window:g} epochs{more}"
        for window in BATCHNORM_WINDOWS
        for more in ("", ",use_buffers=false")
    ]
    small: dict[str, Any] = {"model": "small-resnet", "epochs": max(1, base.epochs // 2)} if base.model == "mlp" else {}
    return vary(base, methods=",".join(["baseline", *kinds]), seeds=min(base.seeds, 3), **small)


def _findings(arms: Sequence[Reading]) -> Findings:
    grids = [arm for arm in arms if arm.name != _BATCHNORM]
    panels = [panel for arm in grids for panel in (_grid(arm), _automatic(arm))]
    panels += [_batchnorm(arm) for arm in arms if arm.name == _BATCHNORM]
    notes = [note for arm in grids for note in _hanging(arm)]
    edges = at_edges({arm.title: arm.trained for arm in grids})
    return Findings([panel.sentence for panel in panels], panels, notes + edges)


def _hanging(arm: Reading) -> list[str]:
    results = arm.trained
    baseline = standing(results, BASELINE)
    labels = [setting(window, interval) for window in WINDOWS for interval in INTERVALS]
    named = [(f"{label} against plain training ({arm.title})", standing(results, label), baseline) for label in labels]
    return hanging(named, results.higher_is_better)


def _grid(arm: Reading) -> Panel:
    results, higher, title = arm.trained, arm.trained.higher_is_better, arm.title
    baseline = standing(results, BASELINE)
    ema = best(standing(results, _ema(window)) for window in EMA_WINDOWS)
    found = {(w, i): standing(results, setting(w, i)) for w in WINDOWS for i in INTERVALS}
    chosen = best(found.values())
    kept = {method["label"]: method["retained_fraction"] for method in arm.run["methods"]}
    decimals = decimals_for([baseline.spread.mean])
    sentence = (
        f"{title}: of {len(found)} pairs of decay and interval, {chosen.label} is best on validation (a switch keeps "
        f"{kept[chosen.label]:.0%} of the progress); on test "
        + " and ".join(
            apart("it", other, chosen.minus(each), higher, decimals)
            for other, each in (
                ("plain training at its own best rate", baseline),
                (f"the best average, {ema.label},", ema),
            )
        )
        + f". {_by_retention(found, kept, baseline, higher)}"
    ).replace(" %", "\N{NO-BREAK SPACE}%")
    columns, names = [f"{i:g}" for i in INTERVALS], [f"{w:g}" for w in WINDOWS]
    gains = [[found[w, i].minus(baseline) for i in INTERVALS] for w in WINDOWS]
    metric = f"test {results.metric}"
    marks = {"better": " +", "worse": " −", "unclear": "", "unknown": ""}
    texts = [
        ["" if d.mean is None else signed(d.mean, decimals) + marks[d.judge(higher)] for d in row] for row in gains
    ]
    plots = [
        heatmap(
            f"{metric}, minus plain training's", _X, _Y, columns, names,
            [[d.mean for d in row] for row in gains], unit="difference", texts=texts,
        ),
        heatmap(
            "Share of the progress that a switch keeps", _X, _Y, columns, names,
            [[kept[setting(w, i)] for i in INTERVALS] for w in WINDOWS], unit="share",
        ),
        _against_retention(f"{metric} over the share kept", metric, found, kept, baseline, ema),
    ]  # fmt: skip
    rows = [
        (each.label, f"{kept[each.label]:.1%}", f"{each.lr:g}", show_difference(each.minus(baseline), decimals),
         show_difference(each.minus(ema), decimals))
        for each in sorted(found.values(), key=lambda each: each.rank)
    ]  # fmt: skip
    text = (
        f"Every setting at the learning rate that is best for it on validation, of the same {len(results.lrs)} for "
        "all, so a gain is no learning-rate cut in disguise. + and − mark differences whose 95 % interval leaves out "
        "zero."
    )
    head = ["Setting, the best on validation first", "Kept", "Own rate", "− plain", "− best EMA"]
    return Panel(title, sentence, text, plots, (head, rows))


def _automatic(arm: Reading) -> Panel:
    """Compare what ``decay="auto"`` chooses with the fixed setting that is best on validation."""
    results = arm.trained
    decimals = decimals_for([standing(results, BASELINE).spread.mean])
    fixed = best(standing(results, setting(w, i)) for w in WINDOWS for i in INTERVALS)
    fixed_ema = best(standing(results, _ema(window)) for window in EMA_WINDOWS)
    rows, said = [], []
    for label, other in ((_AUTO_EMA, fixed_ema), (_AUTO_SEMA, fixed)):
        own = standing(results, label)
        difference = own.minus(other)
        said.append(apart(label, f"the best fixed, {other.label},", difference, results.higher_is_better, decimals))
        rows.append((label, f"{own.lr:g}", show_spread(own.spread, decimals), other.label,
                     show_spread(other.spread, decimals), show_difference(difference, decimals)))  # fmt: skip
    lr = best_rate(results, BASELINE)
    spreads = [spread(results.at(_ema(window), lr, "test").values()) for window in EMA_WINDOWS]
    flat = [spread(results.at(BASELINE, lr, "test").values())] * len(EMA_WINDOWS)
    series = [Series.of("plain training", list(EMA_WINDOWS), flat, 0), Series.of("ema", list(EMA_WINDOWS), spreads, 1)]
    metric = f"test {results.metric}"
    plot = lines(f"Averages of one training: {metric}", "window of the average, epochs", metric, series, log_x=True)
    head = ["Automatic", "Own rate", metric, "Best fixed on validation", metric, "Difference"]
    title = f"{arm.title}: decay=auto"
    return Panel(title, f"{title}: {'; '.join(said)}.", "", [plot], (head, rows))


def _by_retention(
    found: Mapping[tuple[float, float], Standing], kept: Mapping[str, float], baseline: Standing, higher: bool
) -> str:
    """Say how the gain goes with the share kept."""
    points = [(kept[each.label], each.minus(baseline).mean) for each in found.values()]
    finite = [(share, gain if higher else -gain) for share, gain in points if gain is not None]
    if len(finite) < 4 or any(len(set(values)) < 2 for values in zip(*finite, strict=True)):
        return "Too few settings ended to tell how the gain goes with the share kept."
    order = spearmanr([share for share, _ in finite], [gain for _, gain in finite])
    trend = "rises" if order.statistic > 0 else "falls"
    if order.pvalue > 0.05:
        return f"The gain does not go with the share kept (rank correlation {order.statistic:+.2f})."
    return f"The gain {trend} with the share kept (rank correlation {order.statistic:+.2f} over the settings)."


def _against_retention(
    title: str,
    metric: str,
    found: Mapping[tuple[float, float], Standing],
    kept: Mapping[str, float],
    baseline: Standing,
    ema: Standing,
) -> Plot:
    series = []
    for place, interval in enumerate(INTERVALS, start=2):
        line = sorted((found[w, interval] for w in WINDOWS), key=lambda each: kept[each.label])
        shares, spreads = [kept[each.label] for each in line], [each.spread for each in line]
        series.append(Series.of(f"every {interval:g} epochs", shares, spreads, place))
    ends = [min(kept[each.label] for each in found.values()), 1.0]
    for place, (name, each) in enumerate((("plain training, tuned", baseline), ("best EMA, tuned", ema))):
        series.append(Series(name, ends, [each.spread.mean] * 2, style=place))
    return lines(title, "share of the progress kept by a switch", metric, series)


def _batchnorm(arm: Reading) -> Panel:
    results = arm.trained
    metric = results.metric
    lr = results.lrs[0]
    kinds = {
        "averaged with the weights": ("", metric),
        "re-estimated": ("", f"{metric}_bn_reestimated"),
        "of the online model": (",use_buffers=false", metric),
    }
    series, table = [], []
    for name, (more, what) in kinds.items():
        spreads = [
            spread(results.at(f"sema:decay=window {w:g} epochs{more}", lr, "test", metric=what).values())
            for w in BATCHNORM_WINDOWS
        ]
        series.append(Series.of(name, list(BATCHNORM_WINDOWS), spreads))
        table.append(spreads)
    gaps = [
        abs(a.mean - b.mean)
        for a, b in zip(table[0], table[2], strict=True)
        if a.mean is not None and b.mean is not None
    ]
    worst = max(gaps, default=None)
    decimals = decimals_for(each.mean for each in table[0])
    sentence = (
        "BatchNorm: nothing was measured."
        if worst is None
        else (
            f"BatchNorm: statistics of the online model instead of averaged ones change test {metric} by at most "
            f"{worst:.{decimals}f} over these windows."
        )
    )
    plot = lines(f"Test {metric} of Switch EMA", "window of the average, epochs", f"test {metric}", series, log_x=True)
    text = "A switch every epoch. The average is measured with BatchNorm statistics that come from three places."
    return Panel("BatchNorm statistics", sentence, text, [plot])


STUDY = Study(
    question="Which decay goes with which switch interval?",
    claims=(
        Claim("Switch EMA (2402.09240)", "The authors' configurations mostly take decay 0.999 and switch every epoch "
              "of 500 steps, which keeps 21 % of the progress; one takes 0.99 every 50 steps.", "V-fork"),
        Claim("EMA of weights (2411.18704)", "Decay 0.992 every 16 steps, copied back every epoch, hurts: 74.5 instead "
              "of 75.8 %. Such a switch keeps 8 % of the progress.", "V-text"),
        Claim("EMA of weights (2411.18704)", "The larger the decay, the more the average needs BatchNorm statistics of "
              "its own.", "V-text"),
    ),
    task="classification",
    given={"model": "mlp", "epochs": "12", "seeds": "3", "lr": "0.05", "eval_every": "5"},
    options={},
    data_options=FOR_DIGITS,
    recipe="b-cifar100-resnet18",
    arms=_arms,
    findings=_findings,
)  # fmt: skip
