"""Which trackers there are, checked before anything is trained. The standard library suffices to read this."""

from __future__ import annotations

from collections.abc import Mapping

from switch_ema.errors import FieldError, suggestion
from switch_ema.libraries import require

LOGGERS: Mapping[str, str] = {"tensorboard": "tensorboard>=2.17", "mlflow": "mlflow>=2.16", "wandb": "wandb>=0.18"}
"""The trackers, each with the library that it needs."""


def parse_loggers(text: str | None) -> tuple[str, ...]:
    """Read a list of trackers.

    Args:
        text: Their names, separated by commas; None or empty for none.

    Raises:
        FieldError: A name is unknown or stands twice.
        MissingLibraryError: The library of one is not installed, or too old.

    Example:
        >>> parse_loggers("tensorboard")
        ('tensorboard',)
        >>> parse_loggers("tensorbord")
        Traceback (most recent call last):
        ...
        switch_ema.errors.FieldError: log 'tensorbord' is no tracker; did you mean 'tensorboard'? (known: tensorboard, mlflow, wandb)
    """  # noqa: E501
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    for name in names:
        if name not in LOGGERS:
            raise FieldError("log", f"{name!r} is no tracker{suggestion(name, LOGGERS)}")
        if names.count(name) > 1:
            raise FieldError("log", f"names {name} twice; leave one out")
        require(f"--log {name}", LOGGERS[name], extra="log")
    return names
