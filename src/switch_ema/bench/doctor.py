"""What `sema doctor` finds: versions, devices, libraries, and which tasks can run. Loads torch and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import switch_ema
from switch_ema.data.root import data_root
from switch_ema.libraries import numbers
from switch_ema.tasks.entries import TASKS

PACKAGE = "switch-ema"
EXTRAS: Mapping[str, str] = {
    "": "averages of models (`import switch_ema`)",
    "files": "files of averages, without the rest of the bench",
    "bench": "the bench and its tasks: sema compare, study, analyze, report",
    "tune": "the search for decay and interval: sema tune",
    "log": "sema compare --log tensorboard,mlflow,wandb",
    "ray": "comparisons on a cluster",
    "lightning": "the Lightning callback",
    "transformers": "the Hugging Face Trainer callback",
    "accelerate": "Accelerate",
    "ignite": "the Ignite handler",
    "keras": "the Keras callback",
    "jax": "averages for JAX, by optax",
}
"""The extras that users choose from, with what each is for; the empty one stands for what is always installed."""

EVERY_TASK = ("lightning", "numpy", "plotly", "pydantic", "pyyaml", "rich", "scipy", "typer")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "classification": ("pillow", "scikit-learn"),
    "regression": ("pillow", "scikit-learn"),
    "points": ("pillow", "scikit-learn", "torchmetrics"),
    "selfsup": ("lightly", "pillow", "scikit-learn", "timm"),
    "generation": ("diffusers", "pillow", "scikit-learn", "torchmetrics"),
    "video": ("pillow", "scikit-learn"),
    "textclass": ("scikit-learn", "transformers"),
    "language": ("transformers",),
    "detection": ("faster-coco-eval", "pillow", "safetensors", "scikit-learn", "torchvision"),
    "segmentation": ("faster-coco-eval", "pillow", "safetensors", "scikit-learn", "torchvision"),
}
"""The distributions that each task cannot do without, beside those of every task."""


@dataclass(frozen=True)
class Library:
    """One library.

    Attributes:
        name: Name of its distribution.
        oldest: The oldest version that will do; empty where any will.
        found: The version that is installed; None if it is not.
        broken: Versions, all that begin with them, that will not do.
    """

    name: str
    oldest: str
    found: str | None
    broken: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it is there, new enough, and none that will not do."""
        if self.found is None:
            return False
        found = numbers(self.found)
        is_broken = any(found[: len(numbers(each))] == numbers(each) for each in self.broken)
        return found >= numbers(self.oldest) and not is_broken

    @property
    def problem(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if self.fits:
            return ""
        limits = [f">={self.oldest}"] * bool(self.oldest) + [f"!={each}.*" for each in self.broken]
        wanted = f"{self.name}{','.join(limits)}"
        return f"{wanted} is not installed" if self.found is None else f"{wanted} is needed, found {self.found}"


def examine() -> dict[str, Any]:
    """Return what is installed and what can run, as plain data.

    Returns:
        Under ``versions`` those of this package, Python, torch and the system; under ``devices`` a line for each; under
        ``parts`` and ``tasks`` what each is for, whether it is ``ready``, what is ``missing``, and the line that
        installs that (empty where nothing is missing).
    """
    known = libraries()
    torch_version, devices, trouble = _torch()
    return {
        "versions": {
            PACKAGE: switch_ema.__version__,
            "python": platform.python_version(),
            "torch": torch_version,
            "system": platform.platform(),
        },
        "where": {"package": str(Path(switch_ema.__file__).parent), "run by": sys.executable, "data": data_root()},
        "devices": devices,
        "trouble": [*trouble, *([] if known else [_NOT_INSTALLED])],
        "parts": {extra or "core": _part(extra, own) for extra, own in known.items()},
        "tasks": {name: _task(name, known) for name in TASKS},
    }


_NOT_INSTALLED = f"{PACKAGE} is run from its source and is not installed; run: pip install --editable ."


def libraries() -> dict[str, list[Library]]:
    """Return the libraries of every extra, as the installed package asks for them; empty if it is not installed."""
    try:
        wanted = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[Library]] = {extra: [] for extra in EXTRAS}
    for requirement in wanted:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?([^;]*)", requirement)
        extra = re.search(r"""extra == ['"]([\w-]+)['"]""", requirement)
        where = extra[1] if extra else ""
        if match and where in found:
            oldest, broken = re.search(r">=\s*([\w.]+)", match[2]), re.findall(r"!=\s*([\w.]+)\.\*", match[2])
            found[where].append(Library(match[1], oldest[1] if oldest else "", _version(match[1]), tuple(broken)))
    return {extra: own for extra, own in found.items() if own}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _part(extra: str, own: list[Library]) -> dict[str, Any]:
    return {
        "for": EXTRAS[extra],
        "installed": {library.name: library.found for library in own if library.found},
        **_state([library.problem for library in own if library.problem], extra),
    }


def _task(name: str, known: Mapping[str, list[Library]]) -> dict[str, Any]:
    by_name = {library.name: library for own in known.values() for library in own}
    needed = [by_name.get(each) or Library(each, "", _version(each)) for each in ("torch", *EVERY_TASK, *NEEDS[name])]
    problems = [library.problem for library in needed if library.problem]
    return {"for": TASKS[name].summary, **_state(problems, "bench")}


def _state(problems: list[str], extra: str) -> dict[str, Any]:
    what = f"{PACKAGE}[{extra}]" if extra else PACKAGE
    run = f'pip install --upgrade "{what}"' if problems else ""
    return {"ready": not problems, "missing": problems, "run": run}


def _torch() -> tuple[str | None, list[str], list[str]]:
    """Return torch's version, the devices it sees, and what is wrong with it."""
    cores = f"cpu: {os.cpu_count()} cores, {platform.processor() or platform.machine()}"
    try:
        import torch
    except (ImportError, OSError) as error:  # a library of the system may be missing
        return None, [cores], [f'torch does not load: {error}; run: pip install --upgrade "{PACKAGE}"']
    return torch.__version__, [cores, *_accelerators(torch)], []


def _accelerators(torch: Any) -> Iterator[str]:
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}: {about.name}, {about.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "mps: Apple GPU"
