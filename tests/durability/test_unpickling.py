"""Nothing of a foreign file is ever run: a scan of the whole source for the calls that could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import switch_ema

SOURCE = Path(switch_ema.__file__).parent
RUNNING = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "jsonpickle"}
UNPICKLERS = {"read_pickle", "from_pickle", "load_pickle", "Unpickler", "unsafe_load", "full_load", "load_all"}
ALLOWED = {
    "data/pickles.py": {"import pickle", "class on Unpickler"},  # knows a few names and calls stand-ins of its own
    "tasks/usertask.py": {"exec_module()"},  # the user's own file, named on the command line to be run
}


def findings(code: str) -> Iterator[str]:
    """Yield what in a file can run what it reads."""
    tree = ast.parse(code)
    shared = dict(_dictionaries(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in modules if name.partition(".")[0] in UNPICKLING)
        elif isinstance(node, ast.ClassDef):
            names = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            yield from (f"class on {name}" for name in names if name in UNPICKLERS)
            if "Unpickler" in names and "find_class" not in {getattr(part, "name", "") for part in node.body}:
                yield "an Unpickler that finds any class"
        elif isinstance(node, ast.Call):
            yield from _call(ast.unparse(node.func), _words(node, shared))


def _dictionaries(tree: ast.Module) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the dictionaries that a module names, which calls may take words from."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            words = {ast.literal_eval(key): ast.unparse(value) for key, value in _literal(node.value)}
            yield from ((ast.unparse(target), words) for target in node.targets)


def _literal(node: ast.Dict) -> Iterator[tuple[ast.expr, ast.expr]]:
    yield from ((k, v) for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant))


def _words(node: ast.Call, shared: dict[str, dict[str, str]]) -> dict[str, str]:
    words: dict[str, str] = {}
    for word in node.keywords:
        text = ast.unparse(word.value)
        words |= {word.arg: text} if word.arg else shared.get(text, {})
    return words


def _call(called: str, words: dict[str, str]) -> Iterator[str]:
    name = called.rpartition(".")[2]
    if called in RUNNING or name in UNPICKLERS or name == "exec_module" or called in ("os.system", "os.popen"):
        yield f"{name}()"
    if called == "torch.load" and words.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if words.get("weights_only", "True") != "True":
        yield "weights_only=False"
    if words.get("allow_pickle", "False") != "False":  # False is what numpy takes by itself
        yield "allow_pickle=True"
    if words.get("trust_remote_code", "False") != "False":
        yield "trust_remote_code=True"
    if words.get("shell", "False") != "False":
        yield "shell=True"
    loader = words.get("Loader", "")
    if (called.startswith("yaml.") and name in ("load", "compose", "parse", "scan")) and "SafeLoader" not in loader:
        yield "yaml without SafeLoader"
    if name == "from_pretrained" and words.get("local_files_only") != "True":
        yield "from_pretrained that may download"


FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


def test_nothing_in_the_source_runs_what_it_reads() -> None:
    assert len(FILES) > 150
    found = {name: set(findings((SOURCE / name).read_text(encoding="utf-8"))) for name in FILES}
    assert {
        name: what - ALLOWED.get(name, set()) for name, what in found.items() if what - ALLOWED.get(name, set())
    } == {}
    assert all(found[name] == what for name, what in ALLOWED.items())  # nothing is allowed that is not needed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "spec.loader.exec_module(module)",
        "pandas.read_pickle(path)",
        "import joblib",
        "subprocess.run(line, shell=True)",
        "class Any(Unpickler): pass",
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, local_files_only=True, trust_remote_code=True)",
    ],
)
def test_the_scan_finds_what_it_looks_for(code: str) -> None:
    assert list(findings(code))


def test_a_prepared_pickle_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    import os

    import torch

    from switch_ema.averaging.sources import open_source
    from switch_ema.bench.checkpoint import read_checkpoint, write_checkpoint

    class Prepared:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "was run"),)

    torch.save({"weight": Prepared()}, tmp_path / "foreign.pt")
    write_checkpoint(tmp_path / "checkpoint.pt", {"epoch": Prepared()})  # with a checksum that fits
    with pytest.raises(ValueError, match=r"foreign\.pt"):
        open_source(tmp_path / "foreign.pt")
    with pytest.raises(Exception, match="mkdir"):
        read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert not (tmp_path / "was run").exists()
