"""`make bench`: measure everything, print the tables, write `benchmarks/results/`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks import table
from benchmarks.comparison import measure_comparison
from benchmarks.families import FAMILIES, measure_evaluation, measure_family
from benchmarks.imports import measure_imports
from benchmarks.machine import describe
from benchmarks.memory import measure_memory
from benchmarks.picture import picture
from benchmarks.rows import Row, write_results
from benchmarks.shapes import DTYPES, MODELS
from benchmarks.states import measure_states
from benchmarks.steps import NETWORKS, Setting, measure_steps
from benchmarks.training import measure_data, measure_training
from benchmarks.updates import measure_swaps, measure_updates

RESULTS = Path(__file__).parent / "results"
AVERAGES = ("update", "swap", "memory", "state", "import", "step")
SECTIONS = (*AVERAGES, "training", "data", "families", "comparison")
NEEDED = ("timm", "torchvision", "diffusers", "ema_pytorch", "torch_ema")
"""What our averages are measured beside."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds that count (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads, the same for all")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to measure")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="shapes to update")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-missing", action="store_true", help="go on where other libraries are missing")
    parser.add_argument("--out", type=Path, help=f"folder to write to (default: {RESULTS.name}/, if all is measured)")
    step = parser.add_argument_group("the training step")
    step.add_argument("--step-network", choices=list(NETWORKS), default="resnet18")
    step.add_argument("--step-batch", type=int, default=128)
    step.add_argument("--step-image-size", type=int, default=32)
    step.add_argument("--step-bfloat16", action="store_true", help="forward pass under autocast, also of training")
    bench = parser.add_argument_group("our bench")
    bench.add_argument("--training-steps", type=int, help="steps in an epoch of training (default: 4, 351 on a GPU)")
    bench.add_argument("--eval-every", type=int, nargs="+", default=[1, 2], help="how often a comparison measures")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    return options


def sections(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """Yield what is to be measured, and how."""
    rounds, threads = options.rounds, options.threads
    few = max(1, rounds // 4)
    for name, dtype in product(options.models, DTYPES):
        many = 10 * rounds if name == "400 small" else rounds
        if "update" in options.only:
            yield f"update, {name} {dtype}", partial(measure_updates, name, dtype, device, many)
    for name, dtype in product(("ResNet-50", "ViT-B/16"), DTYPES):
        if "swap" in options.only and name in options.models:
            yield f"swap, {name} {dtype}", partial(measure_swaps, name, dtype, device, max(1, rounds // 2))
    for dtype in DTYPES:
        if "memory" in options.only and "ViT-B/16" in options.models:
            yield f"memory, {dtype}", partial(measure_memory, "ViT-B/16", dtype, device, threads)
    if "state" in options.only and "ResNet-50" in options.models:
        yield "state", partial(measure_states, "ResNet-50", device, few)
    if "import" in options.only:
        yield "import", partial(measure_imports, few, threads)
    if "step" in options.only:
        setting = Setting(
            options.step_network, options.step_batch, options.step_image_size, autocast=options.step_bfloat16
        )
        yield "step", partial(measure_steps, setting, device, rounds)
    if "training" in options.only:
        steps, autocast = options.training_steps, options.step_bfloat16
        yield "training", partial(measure_training, device, few, steps=steps, autocast=autocast)
    if "data" in options.only:
        yield "data", partial(measure_data, device, few)
    if "families" in options.only:
        for family in FAMILIES[device.type]:
            yield f"families, {family.name}", partial(measure_family, family, device, few)
        yield "families, evaluation", partial(measure_evaluation, few)
    if "comparison" in options.only:
        every = options.eval_every
        yield "comparison", partial(measure_comparison, device, max(1, rounds // 40), eval_every=every)


def main() -> int:
    options = parse()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and not options.without_missing and set(options.only) & set(AVERAGES):
        print(
            f"{', '.join(missing)} not installed; pip install -c constraints.txt -e '.[bench-peers]'", file=sys.stderr
        )
        return 2
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    machine = describe(device, options.rounds)
    rows: list[Row] = []
    start = time.monotonic()
    for title, measure in sections(options, device):
        print(f"{time.monotonic() - start:5.0f} s  {title}", file=sys.stderr, flush=True)
        rows += measure()
    machine["load_after"] = os.getloadavg()[0]
    order = list(table.TITLES)
    rows.sort(key=lambda row: order.index(row.section))
    text = table.markdown(machine, rows)
    print(text)
    whole = set(options.only) == set(SECTIONS) and set(options.models) == set(MODELS)
    out = options.out or (RESULTS if whole else None)
    if out is None:
        print("Nothing is written for a part of the benchmark; give --out FOLDER.", file=sys.stderr)
        return 0
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / f"{device.type}.json", machine, rows)
    (out / f"{device.type}.md").write_text(text, encoding="utf-8")
    (out / f"{device.type}.svg").write_text(picture(machine, rows), encoding="utf-8")
    print(
        f"Written: {', '.join(str(out / f'{device.type}.{kind}') for kind in ('json', 'md', 'svg'))}", file=sys.stderr
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
