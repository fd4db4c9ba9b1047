"""What the doctor finds: libraries as the package asks for them, tasks by what they import, and what to run."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from switch_ema.bench import doctor
from switch_ema.tasks.entries import TASKS
from tests.conftest import Sema, loaded_after
from tests.test_imports import imported

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WRITTEN = [
    *PROJECT["dependencies"],
    *(f'{line}; extra == "{name}"' for name, lines in PROJECT["optional-dependencies"].items() for line in lines),
]
ASKED = [str(Requirement(line)) for line in WRITTEN if "; sys_platform" not in line]  # as metadata have them
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "faster_coco_eval": "faster-coco-eval", "yaml": "pyyaml"}
ANY_OF_TWO = {"pycocotools"}  # stands in for faster-coco-eval
SOME_MODELS = {"language": {"transformers"}, "detection": {"transformers"}}  # those that need them refuse by themselves
PARTS = {"points": ["points.py", "points_picture.py"], "segmentation": ["detection"]}


@pytest.fixture(autouse=True)
def _as_the_project_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable installation keeps the requirements of the day it was made."""
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ASKED)


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Change the versions that are found; None takes a distribution away."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        found = versions.get(name.replace("-", "_"), "?")
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name) if found == "?" else found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_every_task_and_every_extra_is_known() -> None:
    assert doctor.NEEDS.keys() == TASKS.keys()
    for_development = {"bench-peers", "docs", "dev", "all", "integrations"}
    assert doctor.EXTRAS.keys() - {""} == PROJECT["optional-dependencies"].keys() - for_development
    asked = {library.name for own in doctor.libraries().values() for library in own}
    assert {name for names in (doctor.EVERY_TASK, *doctor.NEEDS.values()) for name in names} <= asked


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_imports_is_what_it_needs(task: str) -> None:
    tasks = ROOT / "src" / "switch_ema" / "tasks"
    named = PARTS.get(task) or [task, f"{task}.py", f"{task}_metrics.py"]
    files = [file for name in named for file in (*(tasks / name).rglob("*.py"), tasks / name) if file.is_file()]
    assert files
    tops = {name.partition(".")[0] for file in files for name in imported(file.read_text("utf-8"), "switch_ema.tasks")}
    outside = tops - sys.stdlib_module_names - {"switch_ema", "torch", "__future__"} - ANY_OF_TWO
    needed = {DISTRIBUTIONS.get(name, name) for name in outside}
    few = SOME_MODELS.get("detection" if task == "segmentation" else task, set())
    assert needed - few <= {*doctor.EVERY_TASK, *doctor.NEEDS[task]}


def test_what_is_missing_or_old_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, diffusers=None, optuna="3.6.1", torch="2.14.1+cu130", scikit_learn="1.10")
    found = doctor.examine()
    assert found["tasks"]["generation"] == {
        "for": TASKS["generation"].summary,
        "ready": False,
        "missing": ["diffusers>=0.35 is not installed"],
        "run": 'pip install --upgrade "switch-ema[bench]"',
    }
    assert found["parts"]["tune"]["missing"] == ["optuna>=4.0 is needed, found 3.6.1"]
    assert found["parts"]["tune"]["run"] == 'pip install --upgrade "switch-ema[tune]"'
    assert found["tasks"]["classification"]["ready"]
    assert found["parts"]["core"] == {
        "for": doctor.EXTRAS[""], "installed": {"torch": "2.14.1+cu130"}, "ready": True, "missing": [], "run": ""
    }  # fmt: skip


def test_every_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {library.name: library for own in doctor.libraries().values() for library in own}
    for line in WRITTEN:
        name, limited, oldest = line.partition(";")[0].partition(">=")
        if limited and name.partition("[")[0] in found:
            assert found[name.partition("[")[0]].oldest == oldest.partition(",")[0], line
    assert found["ray"].oldest == "2.40"
    assert found["typer"].broken == ("0.26", "0.27")
    installed(monkeypatch, typer="0.26.3", ray="2.39.0")
    parts = doctor.examine()["parts"]
    assert parts["bench"]["missing"] == ["typer>=0.15,!=0.26.*,!=0.27.* is needed, found 0.26.3"]
    assert parts["ray"]["missing"] == ["ray>=2.40 is needed, found 2.39.0"]


def test_the_command_says_it_in_lines(monkeypatch: pytest.MonkeyPatch, sema: Sema) -> None:
    installed(monkeypatch, lightly=None)
    answer = sema("doctor")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith("  --  selfsup")]
    assert 'lightly>=1.6 is not installed; run: pip install --upgrade "switch-ema[bench]"' in lines[place + 1]
    assert any(line.startswith("  ok  classification") for line in lines)
    assert any(line.startswith("device      cpu: ") for line in lines)


def test_json_is_all_of_it(sema: Sema) -> None:
    found = json.loads(sema("doctor", "--json").out)
    assert found == json.loads(json.dumps(doctor.examine()))
    assert {"versions", "where", "devices", "trouble", "parts", "tasks"} == found.keys()


def test_a_torch_that_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch, sema: Sema) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = sema("doctor")
    assert answer.code == 0
    assert "torch       does not load" in answer.out
    assert "TROUBLE     torch does not load: " in answer.out


def test_run_from_source_it_says_so(monkeypatch: pytest.MonkeyPatch, sema: Sema) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    answer = sema("doctor")
    assert "is not installed; run: pip install --editable ." in answer.out
    assert answer.code == 0


def test_it_loads_torch_and_nothing_else_that_is_heavy() -> None:
    loaded = loaded_after("from switch_ema.bench.doctor import examine; examine()")
    assert "torch" in loaded
    heavy = {"lightning", "transformers", "timm", "torchvision", "sklearn", "scipy", "plotly", "mlflow", "optuna"}
    assert not loaded & heavy
