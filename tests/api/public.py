"""The public names with their signatures, as lines; `python -m tests.api.public` writes them anew, on purpose."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import switch_ema
from switch_ema.cli import app

FROZEN = Path(__file__).with_name("public.txt")
SOURCE = Path(switch_ema.__file__).parent
BY_MODULE = ("analysis", "integrations")  # users import their modules, not names of the package
RENEW = "python -m tests.api.public"


def public() -> list[str]:
    """Return a line for every public name, sorted."""
    lines = [*_package(), *(line for part in BY_MODULE for line in _modules(part)), *_command_line()]
    return sorted(set(lines))


def _package() -> Iterator[str]:
    for name in switch_ema.__all__:
        yield from _described(f"switch_ema.{name}", getattr(switch_ema, name))


def _described(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"{name}{inspect.signature(thing)}"
        for member in sorted(dir(thing)):
            if not member.startswith("_"):
                yield from _described(f"{name}.{member}", inspect.getattr_static(thing, member))
    elif isinstance(thing, property):
        yield f"{name} -> {inspect.signature(thing.fget).return_annotation}"  # type: ignore[arg-type]
    elif isinstance(thing, (classmethod, staticmethod)):
        yield f"{name}{inspect.signature(thing.__func__)}"
    elif callable(thing):
        yield f"{name}{inspect.signature(thing)}"
    else:
        yield name


def _modules(part: str) -> Iterator[str]:
    """Read the source: what a framework's file needs may not be installed."""
    for path in sorted((SOURCE / part).rglob("*.py")):
        if path.name.startswith("_"):
            continue
        module = ".".join(["switch_ema", *path.relative_to(SOURCE).with_suffix("").parts])
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield from _written(f"{module}.{node.name}", node)


def _written(name: str, node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef):
        arrow = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        yield f"{name}({ast.unparse(node.args)}){arrow}"
        return
    yield f"{name}({', '.join(map(ast.unparse, node.bases))})"
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and (member.name == "__init__" or not member.name.startswith("_")):
            yield from _written(f"{name}.{member.name}", member)
        elif isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            yield f"{name}.{ast.unparse(member)}"


def _command_line() -> Iterator[str]:
    group = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        yield f"sema {name}"
        for parameter in command.params:
            written = ", ".join([*parameter.opts, *parameter.secondary_opts])
            default = "" if parameter.required or parameter.default is None else f" = {parameter.default}"
            if parameter.param_type_name == "argument":
                written = f"ARGUMENT {parameter.name}"
            yield f"sema {name} {written}{default}"


if __name__ == "__main__":
    FROZEN.write_text("\n".join(public()) + "\n", encoding="utf-8")
