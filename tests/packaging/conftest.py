"""The package as users get it: built as sdist and wheel, installed where nothing else of the project is."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in")
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")


class Built(NamedTuple):
    """What was built."""

    sdist: Path
    wheel: Path


def build(hook: str, source: Path, out: Path) -> Path:
    """Call the build backend as pip does, in a process of its own."""
    code = f"import sys, setuptools.build_meta as backend; print(backend.{hook}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build an sdist from a copy of the tree, and the wheel from that sdist."""
    place = tmp_path_factory.mktemp("build")
    tree = place / "tree"
    tree.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, tree)
    for name in ("src", "tests", "examples", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, ignore=JUNK)
    sdist = build("build_sdist", tree, place)
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    [unpacked] = (place / "unpacked").iterdir()
    return Built(sdist, build("build_wheel", unpacked, place))


Run = Callable[..., str]


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment of its own, which borrows the libraries of this one."""
    place = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(place, symlinks=True)
    libraries = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    borrowed = {*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(libraries) / "zz_borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "--no-deps"]
    options = ["--no-index", "--no-compile", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*command, *options, "--ignore-installed", str(built.wheel)], check=True, capture_output=True)
    return place


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Run a program of that environment in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(program: str, *arguments: str) -> str:
        command = [str(installed / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call
