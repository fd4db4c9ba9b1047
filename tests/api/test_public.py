"""Public names and signatures are frozen: a change is made on purpose, or not at all."""

from __future__ import annotations

import difflib
import re

import pytest

import switch_ema
from tests.api import public as lister
from tests.api.public import FROZEN, RENEW, public


def changes(before: list[str], now: list[str]) -> list[str]:
    """Return what is gone and what is new, a line each."""
    return [line for line in difflib.ndiff(before, now) if line[0] in "+-"]


def test_the_public_names_are_those_that_were_frozen() -> None:
    found = changes(FROZEN.read_text(encoding="utf-8").splitlines(), public())
    assert not found, "\n".join(
        ["public names or signatures are not what they were (- before, + now):", *found,
         f"if that is meant, run `{RENEW}` and say in CHANGELOG.md what users have to change"]
    )  # fmt: skip


def test_it_is_about_what_users_touch() -> None:
    lines = public()
    for start in ("switch_ema.EMA(", "switch_ema.SwitchEMA(", "switch_ema.Averager.update(", "sema compare --epochs",
                  "switch_ema.analysis.sharpness.", "sema list ARGUMENT what"):  # fmt: skip
        assert any(line.startswith(start) for line in lines), start
    names = [re.split(r"[( :]", line)[0].removesuffix(".__init__") for line in lines]
    assert [name for name in names if "._" in name] == ["switch_ema.__version__"]


def test_a_change_is_seen_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = public()

    def ema(model: object, decay: float = 0.9) -> None: ...

    monkeypatch.setitem(vars(switch_ema), "EMA", ema)
    monkeypatch.setattr(switch_ema, "__all__", [name for name in switch_ema.__all__ if name != "LAWA"])
    found = changes(before, lister.public())
    assert [line[:20] for line in found if line[0] == "+"] == ["+ switch_ema.EMA(mod"]
    gone = [line for line in found if line[0] == "-"]
    assert len(gone) == 2
    assert gone[0].startswith("- switch_ema.EMA(")
    assert gone[1].startswith("- switch_ema.LAWA(")
