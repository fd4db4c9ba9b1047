"""Every reader of a foreign or damaged file, with a whole file to start from."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from switch_ema.averaging.safefile import SafeFile
from switch_ema.averaging.sources import open_source
from switch_ema.bench.gallery import read_exhibits
from switch_ema.bench.results import Store, read_run
from switch_ema.bench.settings import Settings
from switch_ema.bench.widths import read_sweep
from switch_ema.data import idx, labelfile, parquet, pickles
from switch_ema.data.detection import coco, voc
from switch_ema.data.detection.records import Findings
from switch_ema.data.sheet import read_sheet
from switch_ema.data.text import reviews
from switch_ema.data.video import npyfile
from switch_ema.errors import FieldError, InputError
from switch_ema.recipes.reader import read_recipe, recipe_text
from tests.bench.sample import make_run
from tests.data import make
from tests.data.detection.make import make_coco, make_voc
from tests.durability.mutations import ONE_LINE, make_averaged


@dataclass(frozen=True)
class Reader:
    """A reader, and a file that it reads.

    Attributes:
        name: What it reads.
        make: Writes whole files into an empty folder, and returns which of them is to be damaged.
        read: Reads the folder.
        is_text: Whether the file is a text.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    is_text: bool = False


def _text(name: str, content: str) -> Callable[[Path], Path]:
    def make_(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make_


def _averaged(folder: Path) -> Path:
    make_averaged(folder)
    return folder / "averaged.safetensors"


def _run_folder(folder: Path, name: str) -> Path:
    run, rows = make_run(seeds=1, epochs=2)
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
    (folder / "progress.json").write_text(json.dumps({"format": 1, "done": ["a"], "rows_bytes": 100}))
    return folder / name


def _of_run(name: str) -> Reader:
    def read(folder: Path) -> Any:
        store = Store(folder)
        return read_run(folder), store.check(make_run(seeds=1, epochs=2)[0]["asked"]), store.settled(), store.written()

    return Reader(name, lambda folder: _run_folder(folder, name), read, is_text=True)


def _opened(path: Path) -> Any:
    with SafeFile(path) as file:
        return file.verify()


def _any_source(path: Path) -> Any:
    with open_source(path) as source:
        return {name: sum(len(block) for block in source.blocks(name)) for name in source.entries}


def _exhibits(folder: Path) -> Path:
    (folder / "exhibits").mkdir()
    return _text("exhibits/a.json", '{"exhibits": []}')(folder)


def _parquet(folder: Path) -> Any:
    parquet.check(str(folder))
    return parquet.tables(str(folder), None)


def _idx(folder: Path) -> Any:
    idx.check(str(folder))
    return idx.tables(str(folder), None)


def _npy(folder: Path) -> Path:
    np.save(folder / "clips.npy", np.zeros((3, 4, 8, 8, 1), np.uint8))
    return folder / "clips.npy"


def _pickle(folder: Path) -> Path:
    (folder / "batch").write_bytes(pickle.dumps({b"data": np.arange(12, dtype=np.uint8), b"labels": [1, 2]}, 2))
    return folder / "batch"


_CSV = "image,age,split\n1.png,20,train\n2.png,31.5,test\n"
_REVIEWS = '1,"good, really"\n2,"bad\\nvery"\n'

READERS = (
    Reader("safetensors", _averaged, lambda folder: _opened(folder / "averaged.safetensors")),
    Reader("safetensors to average", _averaged, lambda folder: _any_source(folder / "averaged.safetensors")),
    _of_run("run.json"),
    _of_run("rows.jsonl"),
    _of_run("progress.json"),
    Reader("rows.sums", _text("rows.sums", "100 " + "0" * 64 + "\n"), lambda folder: Store(folder).written(), True),
    Reader("sweep.jsonl", _text("sweep.jsonl", '{"method": "a", "lr": 1, "seed": 0}\n'), read_sweep, True),
    Reader(
        "exhibits",
        _exhibits,
        read_exhibits,
        True,
    ),
    Reader(
        "recipe",
        _text("my.yaml", recipe_text("cpu-points")[1]),
        lambda folder: read_recipe(str(folder / "my.yaml"), Settings.model_fields),
        True,
    ),
    Reader("csv of numbers", _text("a.csv", _CSV), lambda folder: read_sheet(str(folder / "a.csv")), True),
    Reader("csv of labels", _text("l.csv", "a,b\n1,2\n3,4\n"), lambda f: labelfile.read(str(f / "l.csv")), True),
    Reader("text of labels", _text("l.txt", "1\n2\n3\n"), lambda folder: labelfile.read(str(folder / "l.txt")), True),
    Reader("csv of texts", _text("r.csv", _REVIEWS), lambda f: reviews.read("csv", [str(f / "r.csv")]), True),
    Reader("IDX", lambda folder: make.idx(folder) / "train-images-idx3-ubyte", _idx),
    Reader("IDX, compressed", lambda folder: make.idx(folder, ".gz") / "train-images-idx3-ubyte.gz", _idx),
    Reader("parquet", lambda folder: make.parquet(folder) / "train.parquet", _parquet),
    Reader(
        "COCO JSON",
        lambda folder: next(make_coco(folder).glob("annotations/*train*.json")),
        lambda folder: coco.read(str(folder), True, Findings()),
        True,
    ),
    Reader(
        "VOC XML",
        lambda folder: next(make_voc(folder).rglob("*.xml")),
        lambda folder: voc.read(str(folder), True, Findings()),
        True,
    ),
    Reader("pickle", _pickle, lambda folder: pickles.loads((folder / "batch").read_bytes(), "batch")),
    Reader("npy", _npy, lambda folder: npyfile.check_clips(str(folder / "clips.npy"))),
)


def read_damaged(reader: Reader, folder: Path, path: Path, content: bytes) -> str:
    """Read a damaged file.

    Args:
        reader: The reader.
        folder: Where its files lie.
        path: The file.
        content: What is in it now.

    Returns:
        `"read"` or `"refused"`.

    Raises:
        AssertionError: It was refused in more than a line.
        Exception: What no reader should raise.
    """
    path.write_bytes(content)
    try:
        reader.read(folder)
    except ValueError as error:  # InputError is one
        if type(error) not in (InputError, FieldError, ValueError) or not ONE_LINE.fullmatch(str(error)):
            raise AssertionError(f"refused with {error!r}") from error
        return "refused"
    return "read"
