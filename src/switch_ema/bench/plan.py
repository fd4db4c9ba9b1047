"""The planner: groups methods into as few training runs as an exactly paired comparison needs.

Methods that never write into the model are passive: any number of them ride on one run. So a comparison trains, for
every seed and learning rate, one trajectory for plain training with all passive methods, one for each method that
switches, one for each learning-rate control, and one for each way of sharpness-aware training with what rides on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from switch_ema.bench.methods import SAM, Method, Sharpness, slug


@dataclass(frozen=True)
class Trajectory:
    """One training run and the methods measured on it.

    Attributes:
        seed: Seed of the problem, the initial weights and the order of the batches.
        lr: Nominal peak learning rate, before `lr_scale`.
        lr_scale: Factor on the learning rate.
        sam: How it seeks flat minima, if it does.
        active: The method that switches in it, if any.
        riders: The methods measured on it, the active one included.
    """

    seed: int
    lr: float
    lr_scale: float
    sam: Sharpness | None
    active: Method | None
    riders: tuple[Method, ...]

    @property
    def name(self) -> str:
        """A name that is unique in the plan and fit for a file."""
        training = "-".join([SAM, *self.sam.texts()]) if self.sam else "passive"
        what = self.active.label if self.active else f"{training}-{self.lr_scale:g}"
        return f"seed{self.seed}-lr{self.lr:g}-{slug(what)}"


def plan(methods: Sequence[Method], lrs: Sequence[float], seeds: Sequence[int]) -> list[Trajectory]:
    """Group methods into trajectories, the seeds one after the other.

    Args:
        methods: The methods to compare, controls included.
        lrs: Nominal learning rates; every method is trained at each.
        seeds: The seeds.

    Returns:
        `len(seeds) * len(lrs) * (active methods + different ways of training the passive ones)` trajectories.
    """
    trajectories = []
    for seed in seeds:
        for lr in lrs:
            passive = [method for method in methods if not method.switches]
            for scale, sam in dict.fromkeys((method.lr_scale, method.sam) for method in passive):
                riders = tuple(method for method in passive if (method.lr_scale, method.sam) == (scale, sam))
                trajectories.append(Trajectory(seed, lr, scale, sam, None, riders))
            trajectories += [
                Trajectory(seed, lr, method.lr_scale, method.sam, method, (method,))
                for method in methods
                if method.switches
            ]
    return trajectories


def with_controls(methods: Sequence[Method], epochs: int, steps_per_epoch: int) -> list[Method]:
    """Add, for every switching method, plain training and its EMA at the learning rate that the switches leave.

    A switch keeps only its retained fraction of the progress, as a lower learning rate would: if plain training at
    `retained fraction * learning rate` does as well, the gain is not the switch's.

    Args:
        methods: The methods asked for.
        epochs: Length of training.
        steps_per_epoch: Optimizer steps in an epoch.

    Returns:
        The methods and their controls, each label once; a control knows which methods it is for.
    """
    extended = {method.label: method for method in methods}
    for method in methods:
        retained = method.retained_fraction(epochs, steps_per_epoch)
        if retained is None:
            continue
        scale = float(f"{max(retained, 1e-6) * method.lr_scale:.2g}")
        if scale == 1:
            continue
        averaged = tuple(entry for entry in method.options if entry[0] == "decay")
        for control in (Method("baseline", (), method.sam, scale), Method("ema", averaged, method.sam, scale)):
            known = extended.get(control.label, control)
            extended[control.label] = replace(known, control_for=(*known.control_for, method.label))
    return list(extended.values())
