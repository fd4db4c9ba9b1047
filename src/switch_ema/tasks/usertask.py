"""Tasks of the user's own, written as ``path/to/task.py:MyTask``: read without running the file, then imported."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switch_ema.errors import InputError, unknown
from switch_ema.tasks.entry import TaskEntry
from switch_ema.tasks.options import Option, Reader, flag, words

OWN = "own"
"""Stands for the data or model of a task that brings its own and takes no other."""

_CONTRACT = (
    "name", "data", "model", "metrics", "final_metrics", "num_train", "build_model", "train_batches", "loss",
    "evaluate", "averaged_part", "after_step", "evaluate_final", "exhibits",
    "training_metrics", "evaluate_training", "fixed_batches",
)  # fmt: skip


def is_user_task(spec: str) -> bool:
    """Say whether a task is written as a file and a class in it."""
    return ".py:" in spec or spec.endswith(".py")


def user_entry(spec: str) -> TaskEntry:
    """Describe a task by the arguments of its constructor, which become its options.

    The file is read, not run: an argument's annotation (int, float, bool or str, with or without None) decides how its
    text is read.

    Args:
        spec: File and class, such as ``path/to/task.py:MyTask``.

    Raises:
        InputError: There is no such file or class, or the file is not Python.
    """
    path, name = _split(spec)
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"), filename=path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); write the task as path/to/task.py:MyTask") from None
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if not name:
        raise InputError(f"{path}: name the class as well, such as {path}:{next(iter(classes), 'MyTask')}")
    if name not in classes:
        raise unknown(f"class in {path}", name, classes)
    arguments = {argument.name: argument for argument in _arguments(classes[name])}
    if "seed" not in arguments:
        raise InputError(f"{spec}: its __init__ takes no argument 'seed'; add one, even if nothing in it is drawn")
    return TaskEntry(
        summary=(ast.get_docstring(classes[name]) or f"{name} of {path}").splitlines()[0],
        default_data=str(arguments["data"].default or "") if "data" in arguments else OWN,
        default_model=str(arguments["model"].default or "") if "model" in arguments else OWN,
        models={},
        data={},
        options={
            argument.name: Option("an argument of the task's class", argument.reader())
            for argument in arguments.values()
            if argument.name not in ("seed", "data", "model")
        },
        path=spec,
    )


def make_user_task(spec: str, arguments: Mapping[str, Any]) -> Any:
    """Import the file and make the task.

    Args:
        spec: File and class.
        arguments: What its constructor is called with.

    Raises:
        InputError: The task lacks something of the contract.
    """
    path, name = _split(spec)
    module_name = f"sema_task_{Path(path).stem}_{hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        module_spec = importlib.util.spec_from_file_location(module_name, path)
        if module_spec is None or module_spec.loader is None:
            raise InputError(f"{path}: cannot be imported; write the task as path/to/task.py:MyTask")
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_name] = module  # worker processes look it up by name
        sys.path.insert(0, str(Path(path).resolve().parent))  # its neighbours
        module_spec.loader.exec_module(module)
    task = getattr(sys.modules[module_name], name)(**arguments)
    missing = [what for what in _CONTRACT if not hasattr(task, what)]
    if missing:
        raise InputError(
            f"{spec} has no {', '.join(missing)}; inherit from switch_ema.bench.task.Task and see examples/my_task.py"
        )
    return task


@dataclass(frozen=True)
class _Argument:
    """An argument of a constructor, as it is written."""

    name: str
    annotation: str
    default: Any

    def reader(self) -> Reader:
        """Return the reader of its text."""
        kinds = {part.strip() for part in self.annotation.split("|")} - {"None"}
        if kinds == {"bool"} or isinstance(self.default, bool):
            return flag
        if kinds == {"int"}:
            return int
        return float if kinds in ({"float"}, {"int", "float"}) else words


def _split(spec: str) -> tuple[str, str]:
    path, colon, name = spec.rpartition(":")
    return (path, name) if colon and path.endswith(".py") else (spec, "")


def _arguments(node: ast.ClassDef) -> Iterator[_Argument]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            plain, named = member.args.args[1:], member.args.kwonlyargs
            defaults = [None] * (len(plain) - len(member.args.defaults)) + list(member.args.defaults)
            for argument, default in zip([*plain, *named], [*defaults, *member.args.kw_defaults], strict=True):
                annotation = ast.unparse(argument.annotation) if argument.annotation else ""
                yield _Argument(argument.arg, annotation, default.value if isinstance(default, ast.Constant) else None)
