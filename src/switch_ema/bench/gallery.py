"""What the methods made: exhibits of tasks, kept as one JSON file for each training run, and shown side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switch_ema.bench.exhibit import Exhibit, Picture
from switch_ema.bench.files import write_sealed
from switch_ema.bench.integrity import read_sealed
from switch_ema.bench.markup import Html, breakable, join, table, tag
from switch_ema.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SEED = 0
"""Exhibits are kept of this seed alone."""

_FOLDER = "exhibits"
_SMALL = 320  # pixels below which a picture is enlarged by whole pixels, without smoothing


def keep_exhibits(folder: Path, trajectory: str, lr: float, made: Mapping[str, Sequence[Exhibit]]) -> None:
    """Write the exhibits of the methods that rode on a training run, atomically.

    Args:
        folder: The run folder.
        trajectory: Name of the training run.
        lr: Its nominal learning rate.
        made: Exhibits by method; nothing is written where there are none.
    """
    entries = [  # in one order, also where training went on from a checkpoint
        {"method": method, "lr": lr, **_plain(exhibit)} for method in sorted(made) for exhibit in made[method]
    ]
    if entries:
        (folder / _FOLDER).mkdir(exist_ok=True)
        write_sealed(folder / _FOLDER / f"{trajectory}.json", {"exhibits": entries})


def read_exhibits(folder: Path) -> list[dict[str, Any]]:
    """Return all exhibits of a run folder as they were written; an empty list where there are none.

    Raises:
        InputError: A file is damaged.
    """
    found: list[dict[str, Any]] = []
    for path in sorted((folder / _FOLDER).glob("*.json")):
        try:
            found += read_sealed(path)["exhibits"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; delete it, and the report is written without it") from None
    return found


def gallery(exhibits: Iterable[Mapping[str, Any]], methods: Mapping[str, float]) -> Html:
    """Return the exhibits in HTML, those of one name side by side.

    Args:
        exhibits: What `read_exhibits` returned.
        methods: The methods in their order, each with the learning rate at which it is shown.
    """
    by_name: dict[str, dict[str, Mapping[str, Any]]] = {}
    for exhibit in exhibits:
        if methods.get(exhibit["method"]) == exhibit["lr"]:
            by_name.setdefault(exhibit["name"], {})[exhibit["method"]] = exhibit
    parts: list[Html] = []
    for of_method in by_name.values():
        first = next(iter(of_method.values()))
        shown = [
            tag("figure", tag("figcaption", breakable(method)), _body(method, of_method[method]))
            for method in methods
            if method in of_method
        ]
        parts += [
            tag("h3", first["title"]),
            tag("p", first["text"], class_="muted prose"),
            tag("div", *shown, class_="gallery wide" if first["kind"] != "picture" else "gallery"),
        ]
    return join(parts)


def _plain(exhibit: Exhibit) -> dict[str, Any]:
    if isinstance(exhibit, Picture):
        return {
            "kind": "picture",
            **{field: getattr(exhibit, field) for field in ("name", "title", "text")},
            "width": exhibit.frames.shape[2],
            "png": base64.b64encode(_png(exhibit.frames, exhibit.seconds)).decode(),
        }
    return {"kind": type(exhibit).__name__.lower(), **asdict(exhibit)}


def _png(frames: Tensor, seconds: float) -> bytes:
    """Encode frames without loss; of several, as an animated PNG that repeats for ever."""
    from PIL import Image

    images = [Image.fromarray(frame.numpy()) for frame in frames.contiguous()]
    file = io.BytesIO()
    animated = {"save_all": True, "append_images": images[1:], "duration": round(seconds * 1000), "loop": 0}
    images[0].save(file, "PNG", optimize=True, **(animated if len(images) > 1 else {}))
    return file.getvalue()


def _body(method: str, exhibit: Mapping[str, Any]) -> Html:
    if exhibit["kind"] == "picture":
        return tag(
            "img", src=f"data:image/png;base64,{exhibit['png']}", alt=f"{exhibit['title']}, {method}", loading="lazy",
            class_="pixels" if exhibit["width"] < _SMALL else None,
        )  # fmt: skip
    if exhibit["kind"] == "passage":
        spans = (_shaded(piece, shade) for piece, shade in exhibit["pieces"])
        return tag("p", join(spans), class_="passage")
    most = max((max(row, default=0) for row in exhibit["values"]), default=0) or 1
    rows = [
        (name, *(_shaded(value, value / most) for value in row))
        for name, row in zip(exhibit["rows"], exhibit["values"], strict=True)
    ]
    return table(f"{exhibit['title']}, {method}", ["", *exhibit["columns"]], rows)


def _shaded(content: object, shade: float) -> Html:
    shown = round(70 * min(1.0, max(0.0, shade)))
    style = f"background: color-mix(in srgb, var(--accent) {shown}%, transparent)" if shown else None
    return tag("span", content, style=style)
