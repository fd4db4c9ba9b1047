"""Texts become values, or one line that says what to write."""

from __future__ import annotations

from typing import Any

import pytest

from switch_ema.errors import FieldError
from switch_ema.tasks import options
from switch_ema.tasks.options import Option, Reader, read_options

GOOD: list[tuple[Reader, str, Any]] = [
    (options.whole, "3", 3),
    (options.count, "0", 0),
    (options.share, "1", 1.0),
    (options.share, "1e-3", 0.001),
    (options.positive, "0.5", 0.5),
    (options.nonnegative, "0", 0.0),
    (options.flag, "true", True),
    (options.flag, "false", False),
    (options.words, "a b", "a b"),
    (options.one_of("a", "b"), "b", "b"),
]
BAD: list[tuple[Reader, str]] = [
    *((options.whole, text) for text in ("0", "-1", "1.0", "x", "", "²")),
    *((options.count, text) for text in ("-1", "0.5", "")),
    *((options.share, text) for text in ("-0.1", "1.1", "nan", "inf", "x", "")),
    *((options.positive, text) for text in ("0", "-1", "nan", "inf", "x")),
    *((options.nonnegative, text) for text in ("-1", "nan", "inf", "x")),
    *((options.flag, text) for text in ("True", "1", "yes", "")),
    (options.words, ""),
    (options.one_of("a", "b"), "c"),
]


@pytest.mark.parametrize(("reader", "text", "value"), GOOD)
def test_good_texts(reader: Reader, text: str, value: Any) -> None:
    read = read_options({"it": Option("", reader)}, {"it": text})["it"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(("reader", "text"), BAD)
def test_bad_texts(reader: Reader, text: str) -> None:
    with pytest.raises(FieldError) as caught:
        read_options({"it": Option("", reader)}, {"it": text})
    assert caught.value.field == "it"
    assert "write" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_may_come_in_their_own_types() -> None:
    table = {"flag": Option("", options.flag), "share": Option("", options.share), "left": Option("", options.whole)}
    assert read_options(table, {"flag": True, "share": 0.25, "left": None}) == {"flag": True, "share": 0.25}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(FieldError, match=r"siez is no option here; did you mean 'size'\? \(known: size\)"):
        read_options({"size": Option("", options.whole)}, {"siez": 3})
