"""Reading recipes: YAML files that hold the settings of one comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.errors import InputError, suggestion

if TYPE_CHECKING:
    from yaml import Node

EVIDENCE = {
    "V-text": "read in the paper",
    "V-code": "read in the authors' code",
    "V-fork": "read in a configuration file of an author-side fork",
    "V-2nd": "second-hand, but located",
    "derived": "computed from verified values",
    "own": "chosen for this project",
}
"""What a setting's origin is labelled with."""
_ABOUT = ("about", "evidence", "differs")
_OPTIONS = "options"
_WORDS = {"task": "classification", "data": "digits", "model": "small-resnet"}
_FORM = "write settings as `name: value`, one a line; `sema recipe NAME` prints an example"
_PLAIN = "tag:yaml.org,2002:"
_MOST_BYTES = 100_000  # some hundred times a recipe


@dataclass(frozen=True)
class Recipe:
    """A recipe as it is written.

    Attributes:
        where: The file, for messages.
        about: One line on what it is for.
        settings: Values by name of the setting.
        options: Values by name of the task's option.
        lines: The line of every setting and option.
    """

    where: str
    about: str
    settings: Mapping[str, Any]
    options: Mapping[str, Any]
    lines: Mapping[str, int]


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def is_recipe(spec: str) -> bool:
    """Say whether a text names a recipe: one of ours, or a YAML file."""
    return spec.endswith((".yaml", ".yml")) or (_folder() / f"{spec}.yaml").is_file()


def recipe_text(spec: str) -> tuple[str, str]:
    """Return where a recipe is and what is written in it.

    Args:
        spec: A name from `recipe_names`, or the path of a YAML file.

    Raises:
        InputError: There is no such recipe, or it cannot be read.
    """
    ours = _folder() / f"{spec}.yaml"
    if not spec.endswith((".yaml", ".yml")):
        if not ours.is_file():
            raise InputError(
                f"unknown recipe {spec!r}{suggestion(spec, recipe_names())}; `sema list recipes` names all"
            )
        return f"recipe {spec}", ours.read_text(encoding="utf-8")
    try:
        with Path(spec).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except UnicodeDecodeError:
        raise InputError(f"{spec}: not UTF-8 text; save it as such") from None
    except OSError as error:
        raise InputError(f"{spec}: cannot be read ({error.strerror}); `sema recipe NAME` prints one to edit") from None
    if len(content) > _MOST_BYTES:
        raise InputError(f"{spec}: larger than {_MOST_BYTES:,} bytes, which is no recipe; is it another file?")
    return spec, text


def read_recipe(spec: str, known: Collection[str]) -> Recipe:
    """Read a recipe and check its shape; its values are checked where they are used.

    Args:
        spec: A name from `recipe_names`, or the path of a YAML file.
        known: Names of the settings.

    Raises:
        InputError: It is no YAML mapping, or a key is unknown or given twice; the message names the line.
    """
    where, text = recipe_text(spec)
    nodes = _entries(_composed(text, where), where)
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for name, (line, node) in nodes.items():
        if name not in (*known, *_ABOUT, _OPTIONS):
            raise InputError(
                f"{where}, line {line}: {name!r} is no setting{suggestion(name, [*known, *_ABOUT, _OPTIONS])}"
            )
        lines[name] = line
        if name != _OPTIONS:
            values[name] = _value(node, where)
        if name in _WORDS and (not isinstance(values[name], str) or not values[name]):
            raise InputError(f"{where}, line {line}: {name} is one word; write e.g. {name}: {_WORDS[name]}")
    if "task" not in values:
        raise InputError(f"{where}: no task; write e.g. task: {_WORDS['task']}")
    options: dict[str, Any] = {}
    if _OPTIONS in nodes:
        for name, (line, node) in _option_entries(*nodes[_OPTIONS], where).items():
            options[name], lines[name] = _value(node, where), line
    _check_evidence(values.get("evidence"), where, lines)
    settings = {name: value for name, value in values.items() if name not in _ABOUT}
    return Recipe(where, str(values.get("about") or ""), settings, options, lines)


def _folder() -> Traversable:
    return files("switch_ema.recipes")


def _composed(text: str, where: str) -> Node:
    """Return the mapping that a text holds, as nodes: nothing in it is turned into an object."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{where}, line {line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply; {_FORM}") from None
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{where}: {_FORM}")
    return root


def _option_entries(line: int, node: Node, where: str) -> dict[str, tuple[int, Node]]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{where}, line {line}: options of the task are written below it, as `  name: value`")
    return _entries(node, where)


def _entries(mapping: Node, where: str) -> dict[str, tuple[int, Node]]:
    """Return line and value of every key; a key given twice would silently win."""
    _refuse_tag(mapping, where)
    found: dict[str, tuple[int, Node]] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        name = _text(key, where) or ""
        if name in found:
            raise InputError(f"{where}, line {line}: {name!r} is given twice, first in line {found[name][0]}")
        found[name] = (line, value)
    return found


def _value(node: Node, where: str) -> Any:
    """Return a text, or a list or mapping of texts; what reads them decides what they mean."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        _refuse_tag(node, where)
        return [_text(item, where) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {name: _text(value, where) for name, (_, value) in _entries(node, where).items()}
    return _text(node, where)


def _text(node: Node, where: str) -> str | None:
    _refuse_tag(node, where)
    if node.tag == "tag:yaml.org,2002:null":
        return None
    if not isinstance(node.value, str):
        raise InputError(f"{where}, line {node.start_mark.line + 1}: write a number, a word or a list of them here")
    return node.value


def _refuse_tag(node: Node, where: str) -> None:
    """Refuse `!!python/...` and the like, which ask for objects."""
    kind = str(node.tag)
    if not kind.startswith(_PLAIN) or "/" in kind.removeprefix(_PLAIN):
        tag = kind.replace(_PLAIN, "!!")
        raise InputError(f"{where}, line {node.start_mark.line + 1}: leave out the tag {tag}; write the plain value")


def _check_evidence(labels: Any, where: str, lines: Mapping[str, int]) -> None:
    for label in _flat(labels):
        if label not in EVIDENCE:
            raise InputError(
                f"{where}, line {lines['evidence']}: unknown evidence {label!r}{suggestion(label, EVIDENCE)}"
            )


def _flat(labels: Any) -> Iterator[str]:
    if isinstance(labels, dict):
        yield from map(str, labels.values())
    elif labels is not None:
        yield str(labels)
