"""The few pieces of HTML the report is made of. Text is escaped unless it is marked as `Html`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = ("img",)  # elements without an end


class Html(str):
    """Text that already is HTML and is not escaped again."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Return text as HTML, with no line break before ± and %, nor in "95 % interval"; `Html` stays as it is."""
    if isinstance(text, Html):
        return text
    safe = html.escape(str(text)).replace("95 % interval", "95&nbsp;%&nbsp;interval")
    return Html(safe.replace(" ±", "&nbsp;±").replace(" %", "&nbsp;%"))


def breakable(label: str) -> Html:
    """Return a method's label as HTML that may break between its options."""
    return Html(re.sub(r"([:,])", r"\1<wbr>", escape(label)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element; ``class_`` stands for class and ``aria_label`` for aria-label.

    Args:
        name: Name of the element.
        children: Its contents, escaped unless `Html`.
        attributes: Its attributes; True writes the bare name, None and False leave it out.
    """
    head = [name]
    for name_, value in attributes.items():
        key = name_.rstrip("_").replace("_", "-")
        if value is True:
            head.append(key)
        elif value is not None and value is not False:
            head.append(f'{key}="{html.escape(str(value))}"')
    return Html(f"<{' '.join(head)}>" if name in _VOID else f"<{' '.join(head)}>{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Return the parts one after the other, each escaped unless `Html`."""
    return Html(between.join(escape(part) for part in parts))


def table(label: str, head: Sequence[object], rows: Iterable[Sequence[object]], *, words: Sequence[int] = ()) -> Html:
    """Return a table in a box of its own that scrolls sideways, by keyboard too; the first column names the row.

    Args:
        label: What the table shows, for those who do not see it.
        head: Headings of the columns.
        rows: Cells of each row.
        words: Numbers of the columns that hold words; the others but the first hold numbers and stand right.
    """
    kinds = ["words" if i in words else None for i in range(len(head))]
    cells = join(tag("th", text, scope="col", class_=kind) for text, kind in zip(head, kinds, strict=True))
    body = join(
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", text, class_=kind) for text, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    )
    inner = tag("table", tag("thead", tag("tr", cells)), tag("tbody", body))
    return tag("div", inner, class_="scroll", role="region", aria_label=label, tabindex=0)


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Return a list of names and values."""
    return tag("dl", join(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_="facts")


def script_json(value: Any) -> str:
    """Return compact JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
