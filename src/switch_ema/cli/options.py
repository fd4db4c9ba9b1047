"""Options of commands: those that the settings of a comparison make, and those of the task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from switch_ema.bench.settings import Settings
from switch_ema.cli.completion import method_names
from switch_ema.errors import InputError


def option(
    help_text: str, panel: str = "Comparison", *names: str, complete: Callable[[str], list[str]] | None = None
) -> Any:
    """Describe an option of a command: its help, the panel it stands in, and what completes it in the shell."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel, autocompletion=complete)


def with_settings(
    command: Callable[..., None], *, default: str | None = None, hidden: Collection[str] = ()
) -> Callable[..., None]:
    """Give a command an option for every setting; their values stay texts, which the settings read.

    Args:
        command: The command.
        default: What its help calls the default of settings that have one; by default that value.
        hidden: Settings that its help leaves out, as the command refuses them.
    """
    own = [
        each for each in inspect.signature(command, eval_str=True).parameters.values() if each.kind != each.VAR_KEYWORD
    ]
    for name, field in Settings.model_fields.items():
        if field.title is None:
            continue
        shown = (
            "" if field.default in (None, (), PydanticUndefined) else f" [default: {default or field.default}]".lower()
        )
        option = typer.Option(
            help=f"{field.description}{shown}",
            rich_help_panel=field.title,
            show_default=False,
            hidden=name in hidden,
            metavar=_metavar(field),
            autocompletion=method_names if name == "methods" else None,
        )
        kind = bool | None if field.annotation is bool else str | None
        own.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
        )
    command.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    return command


def _metavar(field: FieldInfo) -> str | None:
    if field.annotation is bool:
        return None
    kinds = {int: "NUMBER", float: "NUMBER", tuple[float, ...]: "LIST"}
    return next((name for kind, name in kinds.items() if field.annotation in (kind, kind | None)), "TEXT")


def task_options(arguments: list[str]) -> dict[str, str]:
    """Return the options of the task: what is no option of the command; of several values the last counts.

    They are written `--name value`, `--name=value`, or `--name` for true.
    """
    options: dict[str, str] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            options[name] = value if equals else "true"
            name = "" if equals else name
        elif name:
            options[name], name = argument, ""
        else:
            raise InputError(f"unexpected argument {argument!r}; options are written as --name value")
    return options
