"""A missing or old library is named with the line that installs it, and nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from switch_ema.errors import InputError, MissingLibraryError
from switch_ema.libraries import require


def test_what_is_there_and_new_enough_is_accepted_without_importing_it() -> None:
    before = set(sys.modules)
    require("a test", "pytest>=1.0", "torch>=2", "sklearn", extra="bench")
    assert not {name for name in set(sys.modules) - before if name.startswith("sklearn")}


def test_a_version_is_found_without_reading_what_every_package_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: pytest.fail("slow"))
    require("a test", "pytest>=1.0", "torch>=2")


def test_a_library_may_be_installed_by_another_name() -> None:
    with pytest.raises(MissingLibraryError, match=r"needs sklearn>=99, found 1\."):
        require("a test", "sklearn>=99")


@pytest.mark.parametrize("kind", [InputError, ImportError, ValueError])
def test_what_is_missing_is_named(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        require("the handler", "no_such_library>=2.0", extra="ignite")
    assert str(caught.value) == (
        "the handler needs no_such_library>=2.0, which is not installed; run: "
        'pip install --upgrade "switch-ema[ignite]"'
    )


@pytest.mark.parametrize(
    ("found", "oldest", "old"),
    [("2.9", "2.10", True), ("2.10.0rc1", "2.10", False), ("2.10", "2.9.4", False), ("0.5.5", "1.0", True)],
)
def test_versions_are_compared_as_numbers(found: str, oldest: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: found)
    if not old:
        return require("a test", f"pytest>={oldest}")
    with pytest.raises(MissingLibraryError, match=f"needs pytest>={oldest}, found {found}; run: pip install --upgrade"):
        require("a test", f"pytest>={oldest}")
    return None
