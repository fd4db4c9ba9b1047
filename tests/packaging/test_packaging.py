"""Sdist and wheel are complete, hold nothing else, install into a clean environment, and run and type-check there."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import switch_ema
from tests.packaging.conftest import ROOT, Built, Run

PACKAGE = ROOT / "src" / "switch_ema"
INFO = f"switch_ema-{switch_ema.__version__}.dist-info"
MYPY = "[mypy]\npython_executable = {python}\ncache_dir = {cache}\n[mypy-torch.*]\nfollow_imports = skip\n"
pytestmark = pytest.mark.timeout(300)


def sources() -> set[str]:
    """Return every file that belongs into the package."""
    paths = {path.relative_to(ROOT / "src") for path in PACKAGE.rglob("*") if path.is_file()}
    return {str(path) for path in paths if not any(part.startswith((".", "__pycache__")) for part in path.parts)}


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    names = set(zipfile.ZipFile(built.wheel).namelist())
    package = {name for name in names if not name.startswith(f"{INFO}/")}
    assert package == sources()
    assert {
        "switch_ema/py.typed",
        "switch_ema/recipes/cpu-points.yaml",
        "switch_ema/bench/template/report.js",
    } <= package
    about = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert {name.removeprefix(f"{INFO}/") for name in names - package} == about


def test_the_sdist_holds_the_sources_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    described = {"PKG-INFO", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in"}
    inside = {name for name in files if name.startswith("src/switch_ema/")}
    assert inside == {f"src/{name}" for name in sources()}
    assert {name for name in files - inside if not name.startswith("src/switch_ema.egg-info/")} == described


def test_the_metadata_say_what_it_is(built: Built) -> None:
    content = zipfile.ZipFile(built.wheel)
    about = message_from_string(content.read(f"{INFO}/METADATA").decode())
    assert (about["Name"], about["Version"]) == ("switch-ema", switch_ema.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert [line for line in about.get_all("Requires-Dist", []) if "extra" not in line] == ["torch>=2.8"]
    assert {"bench", "files", "tune", "log", "ray", "all"} <= set(about.get_all("Provides-Extra", []))
    assert "sema = switch_ema.__main__:main" in content.read(f"{INFO}/entry_points.txt").decode()


def test_what_is_installed_is_what_is_imported(run: Run, installed: Path) -> None:
    code = "import switch_ema, importlib.metadata as m; print(switch_ema.__file__, m.version('switch-ema'))"
    place, version = run("python", "-c", code).split()
    assert Path(place).is_relative_to(installed)
    assert version == switch_ema.__version__


def test_averages_work_there(run: Run) -> None:
    code = (
        "import torch, switch_ema\n"
        "model = torch.nn.Linear(1, 1, bias=False)\n"
        "model.weight.data.fill_(0.0)\n"
        "average = switch_ema.EMA(model, decay=0.5)\n"
        "model.weight.data.fill_(1.0)\n"
        "average.update(); average.update()\n"
        "print(float(next(iter(average.averaged_state_dict().values()))))\n"
    )
    assert run("python", "-c", code).split()[-1] == "0.75"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), "compare"),
        (("--version",), f"switch-ema {switch_ema.__version__}"),
        (("list",), "cifar100-resnet18"),
        (("recipe", "cpu-points"), "task: points"),
        (("doctor",), "ok  classification"),
    ],
)
def test_commands_run_there(run: Run, arguments: tuple[str, ...], words: str) -> None:
    assert words in run("sema", *arguments)


def test_type_checkers_see_its_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(MYPY.format(python=installed / "bin" / "python", cache=tmp_path / "cache"))
    (tmp_path / "user.py").write_text(
        "from switch_ema import EMA\n\nEMA(None, decay=0.9).updat()\nEMA(None, dekay=0.9)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    assert [line.split(":")[1] for line in errors if "error" in line] == ["3", "4"], done.stdout + done.stderr
    assert "updat" in errors[0]
    assert "dekay" in done.stdout
