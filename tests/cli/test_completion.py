"""The shell completes commands and the names of what they take, quickly."""

from __future__ import annotations

import pytest

from tests.conftest import Sema, loaded_after


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(sema: Sema, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_SEMA_COMPLETE", f"source_{shell}")
    answer = sema()
    assert answer.code == 0
    assert f"_SEMA_COMPLETE=complete_{shell}" in answer.out


def test_the_script_can_be_shown(sema: Sema) -> None:
    assert "--show-completion" in sema("--help").out
    assert "--install-completion" in sema("--help").out


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("sema comp", {"compare"}),
        ("sema d", {"doctor"}),
        ("sema compare classif", {"classification"}),
        ("sema compare cpu-v", {"cpu-video"}),
        ("sema tune lang", {"language"}),
        ("sema study decay", {"decay-window"}),
        ("sema recipe imagenet-deit", {"imagenet-deit-s"}),
        ("sema list meth", {"methods"}),
        ("sema compare points --methods baseline,look", {"baseline,lookahead"}),
        ("sema compare points --methods sam+sw", {"sam+swa"}),
        ("sema compare points --log tensorboard,ml", {"tensorboard,mlflow"}),
        ("sema study early --log w", {"wandb"}),
    ],
)
def test_names_are_completed(sema: Sema, monkeypatch: pytest.MonkeyPatch, line: str, names: set[str]) -> None:
    monkeypatch.setenv("_SEMA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    answer = sema()
    assert answer.code == 0
    assert set(answer.out.split()) == names


def test_completing_loads_nothing_heavy() -> None:
    loaded = loaded_after(
        "import sys, os, io, contextlib\n"
        "os.environ |= {'_SEMA_COMPLETE': 'complete_bash', 'COMP_WORDS': 'sema compare cl', 'COMP_CWORD': '2'}\n"
        "sys.argv = ['sema']\n"
        "from switch_ema.cli import main\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as printed: main()\n"
        "except SystemExit: pass\n"
        "assert printed.getvalue().split() == ['classification'], printed.getvalue()"
    )
    assert not loaded & {"torch", "numpy", "lightning", "optuna", "mlflow", "wandb", "tensorboard", "plotly"}
