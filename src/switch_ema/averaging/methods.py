"""The named methods: thin compositions of a fold, an update trigger and a switch trigger."""

from __future__ import annotations

from typing import Literal, Unpack

from torch import nn

from switch_ema.averaging.advice import chosen_decay, chosen_switch
from switch_ema.averaging.averager import Averager
from switch_ema.averaging.decay import Constant, DecayRule, PowerFunction, Uniform, check_decay, parse_decay
from switch_ema.averaging.fold import Decayed, Window
from switch_ema.averaging.options import AverageOptions
from switch_ema.averaging.trigger import Every


def EMA(
    model: nn.Module,
    decay: float | str | DecayRule = 0.999,
    *,
    update_every: int | str | Every = 1,
    update_after_step: int = 0,
    steps_per_epoch: int | None = None,
    epochs: float | None = None,
    schedule: str = "cosine",
    **options: Unpack[AverageOptions],
) -> Averager:
    """Exponential moving average of the weights; training is not touched.

    `average <- decay * average + (1 - decay) * model`, once per optimizer step.

    Args:
        model: The model that is trained.
        decay: Share of the old average kept per step, in [0, 1]; or a string such as `"window 1 epoch"`,
            `"half-life 500 steps"`, `"warmup 0.999"`; or a decay rule; or `"auto"`, which suits the length of training
            (see `switch_ema.averaging.advice.advise_ema`).
        update_every: Steps between updates, or a trigger in steps; the decay is adjusted (`decay ** k` for k steps), so
            the average stays the same but for what it does not see.
        update_after_step: Averaging begins after this many steps, from the weights of that moment.
        steps_per_epoch: Optimizer steps in an epoch; needed where `decay` speaks of epochs, or is `"auto"`.
        epochs: Length of training; needed for `"auto"`.
        schedule: How the learning rate runs, for `"auto"`: cosine, step, onecycle, wsd or constant.
        options: `use_buffers`, `parameters`, `dtype`, `device`, `skip_nonfinite`: see `AverageOptions`.

    Returns:
        The averager; call `attach(optimizer)` on it, or `update()` after each step.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> averager = EMA(model, decay=0.9)
        >>> with torch.no_grad():
        ...     _ = model.weight.add_(1.0)
        >>> averager.update()
        >>> with averager.average_parameters():
        ...     pass  # evaluate here

    References:
        Morales-Brotons, Vogels, Hendrikx, "Exponential Moving Average of Weights in Deep Learning: Dynamics and
        Benefits", arXiv 2411.18704, 2024.
    """
    rule = parse_decay(chosen_decay(decay, steps_per_epoch, epochs, schedule), steps_per_epoch)
    update = _in_steps(update_every, update_after_step)
    return Averager(model, Decayed(rule, per_unit=True), update, steps_per_epoch=steps_per_epoch, **options)


def SwitchEMA(
    model: nn.Module,
    decay: float | str | DecayRule = 0.999,
    *,
    switch_every: int | str | Every = "1 epoch",
    update_every: int | str | Every = 1,
    update_after_step: int = 0,
    optimizer_state: Literal["keep", "reset"] = "keep",
    steps_per_epoch: int | None = None,
    epochs: float | None = None,
    schedule: str = "cosine",
    **options: Unpack[AverageOptions],
) -> Averager:
    """Exponential moving average that is copied back into the model at intervals; training goes on from there.

    Per step `average <- decay * average + (1 - decay) * model`, and every `switch_every`: `model <- average`.

    A switch keeps only part of the progress since the last one (`retained_fraction`), so decay and interval belong
    together; a switch that would all but freeze training is warned of, with a decay that would not.

    Args:
        model: The model that is trained.
        decay: Share of the old average kept per step, as for `EMA`; `"auto"` goes by the interval
            (see `switch_ema.averaging.advice.advise_switch`).
        switch_every: When to switch: a number of steps, `"1 epoch"`, `"0.5 epoch"`, `"1 epoch after 5 until 90"`, or
            an `Every`, or `"auto"`. Epochs are counted by `end_epoch()`.
        update_every: As for `EMA`.
        update_after_step: As for `EMA`.
        optimizer_state: At a switch, `"keep"` the optimizer's momenta (as in the paper) or `"reset"` them.
        steps_per_epoch: Optimizer steps in an epoch; needed where `decay` speaks of epochs or a switch
            falls inside one.
        epochs: Length of training; needed for `"auto"`.
        schedule: How the learning rate runs, for `"auto"`, as for `EMA`.
        options: As for `EMA`. Buffers are switched with the weights.

    Returns:
        The averager; call `attach(optimizer)` on it and `end_epoch()` at the end of each epoch.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> averager = SwitchEMA(nn.Linear(2, 1), decay=0.99, switch_every="1 epoch", steps_per_epoch=100)
        >>> round(averager.retained_fraction(100), 2)
        0.37

    References:
        Li et al., "Switch EMA: A Free Lunch for Better Flatness and Sharpness", arXiv 2402.09240, 2024.
    """
    decay, switch_every = chosen_switch(decay, switch_every, steps_per_epoch, epochs, schedule)
    rule = parse_decay(decay, steps_per_epoch)
    return Averager(
        model,
        Decayed(rule, per_unit=True),
        _in_steps(update_every, update_after_step),
        Every.of(switch_every),
        optimizer_state=optimizer_state,
        steps_per_epoch=steps_per_epoch,
        **options,
    )


def SWA(
    model: nn.Module, *, update_every: int | str | Every = "1 epoch", **options: Unpack[AverageOptions]
) -> Averager:
    """Stochastic weight averaging: the arithmetic mean of the weights at the end of each epoch.

    `average <- (n * average + model) / (n + 1)` with `n` updates so far.

    Args:
        model: The model that is trained.
        update_every: When weights enter the mean, usually late in training: `"1 epoch after 75"`, `"100 steps"`.
        options: As for `EMA`. The mean of BatchNorm statistics is a stand-in: see `reestimate_batchnorm`.

    Returns:
        The averager.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> averager = SWA(nn.Linear(2, 1), update_every="1 epoch after 75")

    References:
        Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv 1803.05407, 2018.
    """
    return Averager(model, Decayed(Uniform(), per_unit=False), Every.of(update_every), **options)


def Lookahead(
    model: nn.Module,
    *,
    k: int = 5,
    alpha: float = 0.5,
    optimizer_state: Literal["keep", "reset"] = "keep",
    **options: Unpack[AverageOptions],
) -> Averager:
    """Lookahead: every k steps the slow weights move a share alpha towards the model, which goes on from them.

    `average <- (1 - alpha) * average + alpha * model; model <- average`: an EMA of decay `1 - alpha` that is updated
    and switched every k steps.

    Args:
        model: The model that is trained.
        k: Steps between switches, at least 1.
        alpha: Share of the model's progress that is kept, in [0, 1].
        optimizer_state: As for `SwitchEMA`.
        options: As for `EMA`.

    Returns:
        The averager.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> Lookahead(nn.Linear(2, 1), k=5, alpha=0.5).retained_fraction(5)
        0.5

    References:
        Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", arXiv 1907.08610, 2019.
    """
    rule = Constant(1 - check_decay(alpha, "alpha"))
    every = Every(k)
    return Averager(model, Decayed(rule, per_unit=False), every, every, optimizer_state=optimizer_state, **options)


def LAWA(
    model: nn.Module,
    *,
    window: int = 5,
    update_every: int | str | Every = "1 epoch",
    **options: Unpack[AverageOptions],
) -> Averager:
    """Latest weight averaging: the mean of the last few snapshots, each with the same weight.

    `average = (model_t + model_{t-1} + ... + model_{t-window+1}) / window`, over the times at which it is updated.

    Args:
        model: The model that is trained.
        window: Number of snapshots, at least 1; each takes the memory of the weights.
        update_every: When a snapshot is taken: `"1 epoch"`, `"500 steps"`.
        options: As for `SWA`.

    Returns:
        The averager.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> averager = LAWA(nn.Linear(2, 1), window=6, update_every="1 epoch")

    References:
        Kaddour, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight Averaging",
        arXiv 2209.14981, 2022.
    """
    return Averager(model, Window(window), Every.of(update_every), **options)


def PowerEMA(
    model: nn.Module,
    gamma: float = 6.94,
    *,
    update_every: int | str | Every = 1,
    update_after_step: int = 0,
    **options: Unpack[AverageOptions],
) -> Averager:
    """Power-function EMA: an average whose memory grows with training, so that early weights are forgotten.

    `average <- b * average + (1 - b) * model` with `b = (1 - 1 / (n + 1)) ** (gamma + 1)`: weights of step t count in
    proportion to `t ** gamma`.

    Args:
        model: The model that is trained.
        gamma: Exponent, at least 0; 6.94 looks back over about 10 % of training, 16.97 over about 5 %, 0 is the mean.
        update_every: As for `EMA`.
        update_after_step: As for `EMA`.
        options: As for `EMA`.

    Returns:
        The averager.

    Raises:
        ValueError: If an argument is out of range, or the model has no initialised parameters.

    Example:
        >>> averager = PowerEMA(nn.Linear(2, 1), gamma=6.94)

        By the width of the average, as a part of training:

        >>> from switch_ema.averaging.decay import gamma_from_sigma_rel
        >>> averager = PowerEMA(nn.Linear(2, 1), gamma=gamma_from_sigma_rel(0.1))

    References:
        Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, 2024.
    """
    update = _in_steps(update_every, update_after_step)
    return Averager(model, Decayed(PowerFunction(gamma), per_unit=True), update, **options)


def _in_steps(update_every: int | str | Every, update_after_step: int) -> Every:
    """Return the update trigger of a method whose decay speaks of steps."""
    update = Every.of(update_every, start=update_after_step)
    if update.unit != "step":
        raise ValueError(
            f"the decay is per step, so the average is updated every N steps, not every '{update}'; "
            "write update_every=16, or use SWA or LAWA to average by the epoch"
        )
    return update
