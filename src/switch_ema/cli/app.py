"""The application that commands are added to, and how it ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from switch_ema.errors import FieldError, InputError

try:
    from typer.exceptions import TyperException
except ImportError:  # before 0.28; they were click's until 0.25
    from click.exceptions import ClickException as TyperException  # type: ignore[assignment]

app = typer.Typer(
    help="Weight averaging for PyTorch: does it help on your task? Paired seeds, learning-rate controls, a report.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        import switch_ema

        typer.echo(f"switch-ema {switch_ema.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted."""
    try:
        code = app(standalone_mode=False, prog_name="sema")
    except FieldError as error:
        _fail(f"--{error.field.replace('_', '-')} {error.problem}", 2)
    except InputError as error:
        _fail(str(error), 2)
    except TyperException as error:
        _fail(getattr(error, "format_message", error.__str__)(), getattr(error, "exit_code", 2))
    except OSError as error:
        _fail(f"{error.filename or 'the run'}: {error.strerror or error}; nothing that was written is lost", 1)
    if code == _INTERRUPTED:
        _fail("stopped; the same command continues where it was", _INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    line = " ".join(message.split())
    sys.stderr.write(f"sema: {line}\n")
    sys.exit(code)
