"""Imports point one way, and importing the package costs nothing."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import switch_ema
from tests.conftest import loaded_after

SOURCE = Path(__file__).parents[1] / "src" / "switch_ema"
ROOT = "switch_ema"
LEAVES = {"errors", "libraries", "__version__"}  # may be used by all but the averaging core
# what each part may import of the package, beside itself and the leaves
PUBLIC = {ROOT, *switch_ema.__all__} - {"__version__"}
MAY_IMPORT = {
    "averaging": set[str](),
    "analysis": set[str](),
    "data": set[str](),
    "tasks": {"data", "bench.task", "bench.exhibit"},
    "recipes": set[str](),
    "bench": {"averaging", "analysis", "data", "tasks", "recipes"},
    "integrations": {"averaging"},
    "cli": {"averaging", "analysis", "data", "tasks", "recipes", "bench"},
    "errors": set[str](),
    "libraries": set[str](),
    "__init__": {"averaging"},
    "__main__": {"cli"},
}
MAY_LOAD = {
    "averaging/fused.py": {"triton"},
    "averaging/safefile.py": {"safetensors"},
}  # optional libraries, inside functions
STANDARD_LIBRARY_ONLY = {"averaging/advice.py", "averaging/decay.py", "averaging/files.py", "averaging/trigger.py"}
OPTIONAL = {
    *(
        "curvlinops",
        "diffusers",
        "faster_coco_eval",
        "lightning",
        "lightning_fabric",
        "numpy",
        "pandas",
        "plotly",
        "pyarrow",
        "pycocotools",
        "pydantic",
    ),
    *(
        "rich",
        "safetensors",
        "scipy",
        "sklearn",
        "timm",
        "torchmetrics",
        "torchvision",
        "accelerate",
        "ignite",
        "keras",
        "jax",
        "optax",
        "optuna",
        "ray",
        "tensorboard",
        "mlflow",
        "wandb",
        "transformers",
        "typer",
        "yaml",
    ),
}
LOADED_BY_TORCH = {"numpy"}  # where it is installed


def imported(code: str, package: str) -> Iterator[str]:
    """Yield the full names that code imports anywhere, from within a package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(path: str, code: str) -> list[str]:
    """List the imports that a file of the package must not have; `path` is relative to the package."""
    parts = path.removesuffix(".py").split("/")
    part = parts[0]
    package = ".".join([ROOT, *parts[:-1]])
    allowed = {part, *MAY_IMPORT.get(part, set()), *(LEAVES if part != "averaging" else {"__version__"})}
    libraries = sys.stdlib_module_names | {"torch", "__future__"} | MAY_LOAD.get(path, set())
    found = []
    for name in imported(code, package):
        top = name.partition(".")[0]
        inside = name.removeprefix(f"{ROOT}.")
        if inside in PUBLIC:  # switch_ema.EMA is switch_ema.averaging.methods.EMA
            inside = "averaging"
        if top != ROOT:
            outside = part == "averaging" and top not in libraries
            if outside or (path in STANDARD_LIBRARY_ONLY and top not in sys.stdlib_module_names):
                found.append(name)
        elif not any(inside == other or inside.startswith(f"{other}.") for other in allowed):
            found.append(name)
    return found


FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path: str) -> None:
    assert violations(path, (SOURCE / path).read_text(encoding="utf-8")) == []


def test_every_part_is_known() -> None:
    parts = {path.removesuffix(".py").split("/")[0] for path in FILES}
    assert parts <= MAY_IMPORT.keys()
    assert {"averaging/decay.py", "averaging/averager.py"} <= set(FILES)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("averaging/fold.py", "import numpy as np"),
        ("averaging/fold.py", "from switch_ema.errors import InputError"),
        ("averaging/fold.py", "def f():\n    from switch_ema.bench import train"),
        ("averaging/fold.py", "from switch_ema import bench"),
        ("averaging/fold.py", "from ..analysis import sharpness"),
        ("averaging/fold.py", "import safetensors"),
        ("averaging/decay.py", "import torch"),
        ("averaging/trigger.py", "from torch import nn"),
        ("analysis/hessian.py", "from switch_ema.averaging.averager import Averager"),
        ("data/idx.py", "from switch_ema.tasks import classification"),
        ("data/idx.py", "from ..bench.task import Metric"),
        ("tasks/classification.py", "from switch_ema.bench import train"),
        ("tasks/classification.py", "import switch_ema.averaging"),
        ("bench/train.py", "from switch_ema.cli import main"),
        ("bench/train.py", "from switch_ema.integrations import lightning"),
        ("cli/app.py", "from switch_ema.integrations.lightning import Callback"),
        ("integrations/lightning.py", "from switch_ema.bench.train import train"),
        ("tasks/classification.py", "from switch_ema import EMA"),
        ("data/idx.py", "import switch_ema"),
        ("errors.py", "from switch_ema.averaging import decay"),
    ],
)
def test_the_check_can_fail(path: str, code: str) -> None:
    assert violations(path, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("averaging/safefile.py", "import safetensors.torch\nfrom switch_ema import __version__"),
        ("averaging/fold.py", "from switch_ema.averaging.decay import DecayRule"),
        ("averaging/fold.py", "from . import tensors\nimport math, torch.nn"),
        ("tasks/classification.py", "from switch_ema.bench.task import Metric\nimport timm"),
        ("tasks/classification.py", "from ..errors import unknown\nfrom switch_ema.data.catalog import load"),
        ("bench/run.py", "from switch_ema import __version__\nfrom switch_ema.tasks import classification"),
        ("cli/app.py", "from switch_ema.bench import report"),
        ("bench/run.py", "import switch_ema\nfrom switch_ema import EMA"),
        ("integrations/lightning.py", "import lightning\nfrom switch_ema.averaging.averager import Averager"),
    ],
)
def test_the_check_can_pass(path: str, code: str) -> None:
    assert violations(path, code) == []


def test_importing_the_package_loads_nothing() -> None:
    loaded = loaded_after("import switch_ema; dir(switch_ema)")
    assert not loaded & {"torch", *OPTIONAL}


def test_using_every_public_name_loads_torch_and_nothing_optional() -> None:
    loaded = loaded_after("import switch_ema\nfor name in switch_ema.__all__: getattr(switch_ema, name)")
    assert "torch" in loaded
    assert not loaded & (OPTIONAL - LOADED_BY_TORCH)


def test_the_subprocess_check_can_fail() -> None:
    assert "rich" in loaded_after("import switch_ema, rich")


def test_an_unknown_name_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'switch_ema' has no attribute 'SMA'"):
        _ = switch_ema.SMA
    assert set(switch_ema.__all__) == set(dir(switch_ema))
    assert not hasattr(switch_ema, "torch")
