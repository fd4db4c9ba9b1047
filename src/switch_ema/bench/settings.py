"""Everything that defines a comparison, checked when it is made. It never loads torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from switch_ema.bench.methods import Method, parse_methods
from switch_ema.errors import InputError, unknown

_DEFAULT_LR = {"sgd": 0.05, "adamw": 0.001}


class Settings(BaseModel):
    """What is asked of a comparison; two runs with equal settings have equal rows (but for seconds).

    Attributes are those of `sema compare`; `lr` holds nominal peak learning rates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    data: str
    model: str
    task_options: dict[str, str | int | float] = {}
    methods: str = "baseline,ema,swa,sema"
    control: bool = False
    seeds: int = Field(3, ge=1, le=1000)
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: tuple[float, ...] = ()
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup_epochs: float | None = Field(None, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    strategy: Literal["auto", "ddp"] = "auto"

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        rates = self.lr or (_DEFAULT_LR[self.optimizer],)
        for rate in rates:
            if not 0 < rate < float("inf"):
                raise InputError(f"--lr {rate:g}: a learning rate is a number above 0; write e.g. --lr 0.05")
            if rates.count(rate) > 1:
                raise InputError(f"--lr names {rate:g} twice; leave one out")
        warmup = min(1.0, self.epochs / 2) if self.warmup_epochs is None else self.warmup_epochs
        if warmup > self.epochs:
            raise InputError(
                f"--warmup-epochs {warmup:g} is longer than the {self.epochs} epochs of training; "
                f"write at most --warmup-epochs {self.epochs}"
            )
        self.__dict__.update(lr=tuple(rates), warmup_epochs=warmup)  # a frozen model fills in its defaults once
        return self

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Make settings from plain values.

        Raises:
            InputError: If a value is unknown, malformed or out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise _first(error) from None

    def parsed_methods(self) -> list[Method]:
        """Return the methods asked for, plain training first.

        Raises:
            InputError: If one is unknown or malformed.
        """
        return parse_methods(self.methods)

    def default_out(self) -> Path:
        """Return the folder of this comparison: the same for equal settings, another for others."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return (
            Path("runs") / f"{self.task}-{self.data.replace('/', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        )


def _first(error: ValidationError) -> InputError:
    """Turn pydantic's first complaint into one line."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    if problem["type"] == "extra_forbidden":
        return unknown("setting", name, Settings.model_fields)
    option = "--" + name.replace("_", "-")
    return InputError(f"{option} {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
