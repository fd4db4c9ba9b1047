"""Everything that defines a comparison, checked when it is made. It never loads torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from switch_ema.bench.methods import Method, parse_methods, slug
from switch_ema.errors import FieldError, suggestion

_DEFAULT_LR = {
    "sgd": 0.05,
    "adam": 0.001,
    "adamw": 0.001,
    "lamb": 0.005,
    "lars": 0.5,
    "adan": 0.001,
    "schedulefree": 0.0025,
}


_COMPARISON, _DATA, _TRAINING, _OPTIMIZER, _SCHEDULE, _MACHINE = (
    "Comparison", "Data and model", "Training", "Optimizer", "Learning rate", "Machine"
)  # fmt: skip


def _field(panel: str, about: str, default: Any = ..., **limits: Any) -> Any:
    return Field(default, title=panel, description=about, **limits)


class Settings(BaseModel):
    """What is asked of a comparison; two runs with equal settings have equal rows (but for seconds).

    The fields are the options of `sema compare`: their descriptions are its help, their titles its groups. Numbers may
    be given as texts, lists as texts with commas.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    data: str = _field(_DATA, "Data set by name, or a folder; default: the embedded one.")
    model: str = _field(_DATA, "Network; `sema list models` names them.")
    task_options: dict[str, Any] = {}
    methods: str = _field(_COMPARISON, "Methods with options, separated by commas.", "baseline,ema,swa,sema")
    control: bool = _field(_COMPARISON, "Add learning-rate controls for every switching method.", False)
    seeds: int = _field(_COMPARISON, "Number of paired seeds.", 3, ge=1, le=1000)
    keep_weights: Literal["none", "last", "best", "every"] = _field(
        _COMPARISON, "Weights of every method to keep: none, last, best (on validation, and last) or every.", "none"
    )
    eval_every: int = _field(_COMPARISON, "Measure every so many epochs, and after the last.", 1, ge=1)
    epochs: int = _field(_TRAINING, "Epochs.", 30, ge=1)
    batch_size: int = _field(_TRAINING, "Examples per batch, over all devices.", 64, ge=1)
    accumulate: int = _field(_TRAINING, "Batches per optimizer step.", 1, ge=1)
    clip_norm: float | None = _field(_TRAINING, "Largest norm of the gradient.", None, gt=0)
    optimizer: Literal["sgd", "adam", "adamw", "lamb", "lars", "adan", "schedulefree"] = _field(
        _OPTIMIZER, "sgd, adam, adamw, lamb, lars, adan or schedulefree (AdamW).", "sgd"
    )
    momentum: float = _field(_OPTIMIZER, "Momentum of SGD and LARS.", 0.9, ge=0, lt=1)
    nesterov: bool = _field(_OPTIMIZER, "Nesterov's momentum in SGD.", True)
    betas: tuple[float, ...] = _field(_OPTIMIZER, "Decays of Adam's moments, such as 0.9,0.95.", ())
    eps: float | None = _field(_OPTIMIZER, "Adam's epsilon.", None, gt=0)
    weight_decay: float = _field(_OPTIMIZER, "Weight decay.", 5e-4, ge=0)
    decay_norms: bool = _field(_OPTIMIZER, "Decay biases and norm weights too.", False)
    lr: tuple[float, ...] = _field(_SCHEDULE, "Peak learning rate, or several: 0.02,0.05,0.1.", ())
    schedule: Literal["cosine", "constant", "step", "onecycle", "wsd"] = _field(
        _SCHEDULE, "cosine, constant, step, onecycle, or wsd (warm-up, stable, decay).", "cosine"
    )
    schedule_unit: Literal["step", "epoch"] = _field(_SCHEDULE, "How often the rate changes: step or epoch.", "step")
    lr_min: float = _field(_SCHEDULE, "Lowest rate of cosine and wsd.", 0.0, ge=0)
    milestones: tuple[float, ...] = _field(_SCHEDULE, "Epochs of the steps; default: 1/2 and 3/4 of training.", ())
    step_factor: float = _field(_SCHEDULE, "What a step multiplies the rate by.", 0.1, gt=0, lt=1)
    decay_share: float = _field(_SCHEDULE, "Share of training in which wsd decays.", 0.2, gt=0, le=1)
    warmup_epochs: float | None = _field(
        _SCHEDULE, "Epochs of linear warm-up; default: 1, at most half of training.", None, ge=0
    )
    warmup_start: float | None = _field(_SCHEDULE, "Share of the peak at which warm-up starts.", None, ge=0, le=1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = _field(
        _MACHINE, "32-true, 16-mixed or bf16-mixed.", "32-true"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = _field(_MACHINE, "auto, cpu, cuda or mps.", "auto")
    devices: int = _field(_MACHINE, "Number of devices, of each machine.", 1, ge=1)
    threads: int | None = _field(
        _MACHINE,
        "CPU threads; default: 1 for a task's embedded data, which are small, else one for each core.",
        None,
        ge=1,
    )
    strategy: Literal["auto", "ddp", "fsdp2"] = _field(
        _MACHINE, "auto, ddp (the model on every device) or fsdp2 (a part of it on each).", "auto"
    )

    @field_validator("lr", "betas", "milestones", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Take a single number or a text with commas for a list."""
        try:
            if isinstance(value, str):
                return tuple(float(number) for number in value.split(",")) if value else ()
            return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)
        except (TypeError, ValueError):
            raise FieldError(
                str(info.field_name), f"{value!r} is not a list of numbers; write e.g. 0.05 or 0.02,0.05,0.1"
            ) from None

    @field_validator("methods", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """Take a list of methods, as recipes have it."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        rates = self.lr or (_DEFAULT_LR[self.optimizer],)
        for rate in rates:
            if not 0 < rate < float("inf"):
                raise FieldError("lr", f"{rate:g}: a learning rate is a number above 0; write e.g. 0.05")
            if rates.count(rate) > 1:
                raise FieldError("lr", f"names {rate:g} twice; leave one out")
        if self.lr_min > min(rates):
            raise FieldError("lr_min", f"{self.lr_min:g} is above the learning rate {min(rates):g}; write less")
        warmup = self.warmup_epochs
        if warmup is None:
            warmup = 0.0 if self.schedule == "onecycle" else min(1.0, self.epochs / 2)
        if warmup > self.epochs:
            raise FieldError(
                "warmup_epochs",
                f"{warmup:g} is longer than the {self.epochs} epochs of training; write at most {self.epochs}",
            )
        if warmup and self.schedule == "onecycle":
            raise FieldError("warmup_epochs", f"{warmup:g}: the onecycle schedule has its own warm-up; write 0")
        if self.schedule == "wsd" and warmup > self.epochs * (1 - self.decay_share) + 1e-9:
            raise FieldError(
                "decay_share",
                f"{self.decay_share:g} of {self.epochs} epochs begins within the warm-up; "
                f"write less, or warmup_epochs below {warmup:g}",
            )
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) <= 0:
            raise FieldError("milestones", f"{list(self.milestones)}: write rising epochs above 0, such as 60,120,160")
        self.__dict__.update(lr=tuple(rates), warmup_epochs=warmup)  # a frozen model fills in its defaults once
        return self

    @classmethod
    def of(cls, **values: Any) -> Settings:
        """Make settings from plain values.

        Raises:
            FieldError: If a value is unknown, malformed or out of range.
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
        return [replace(method, schedule=self.schedule) for method in parse_methods(self.methods)]

    def default_out(self) -> Path:
        """Return the folder of this comparison: the same for equal settings, another for others."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        names = (slug(Path(name).name) for name in (self.task, self.data))
        return Path("runs") / "-".join([*names, hashlib.sha256(text.encode()).hexdigest()[:8]])


def _first(error: ValidationError) -> FieldError:
    """Turn pydantic's first complaint into one line."""
    problem = error.errors()[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    if problem["type"] == "extra_forbidden":
        return FieldError(name, f"is no setting{suggestion(name, Settings.model_fields)}")
    return FieldError(name, f"{problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
