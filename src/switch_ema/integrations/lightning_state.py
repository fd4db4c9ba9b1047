"""What the Lightning callback adds to a checkpoint, also where weights are sharded over processes.

    state_dict              the average, in the model's types
    current_model_state     the trained weights
    switch_ema              the averager's state

`ModelParallelStrategy` writes a distributed checkpoint of `state_dict` and of each of `optimizer_states`, and leaves
the rest to the first process. Sharded weights and averages therefore travel as one optimizer state more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, zeros_like
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load

from switch_ema.averaging.averager import Averager
from switch_ema.averaging.posthoc import PostHocEMA
from switch_ema.averaging.slots import plain_names
from switch_ema.averaging.tensors import is_sharded
from switch_ema.integrations.whole import whole

STATE = "switch_ema"
TRAINED = "current_model_state"  # as in Lightning's own `WeightAveraging`
_PLACE = "distributed"


def put(checkpoint: dict[str, Any], averager: Averager, trained: dict[str, Any]) -> None:
    """Put average, trained weights and the averager's state into a checkpoint; all processes call this.

    Args:
        checkpoint: What Lightning is about to save.
        averager: The averager.
        trained: The `state_dict` of the module with its trained weights.
    """
    averaged, state = averager.averaged_state_dict(), averager.state_dict()
    if not _has_shards(state["averages"]):
        checkpoint.update({"state_dict": averaged, TRAINED: trained, STATE: state})
    elif _has_shards(checkpoint["state_dict"]):
        _put_shards(checkpoint, averaged, trained, state)
    else:
        averaged, trained = dict(plain_names(averaged)), dict(plain_names(trained))
        checkpoint.update({"state_dict": whole(averaged), TRAINED: whole(trained), STATE: whole(state)})


def take(trainer: Trainer, module: LightningModule, averager: Averager | PostHocEMA, loaded: dict[str, Any]) -> None:
    """Bring a module and its averager to where they were when `loaded` was saved; all processes call this.

    Args:
        trainer: Knows the path of a distributed checkpoint.
        module: Gets the trained weights.
        averager: A new one, of the module.
        loaded: The two entries of the checkpoint, or one of them.
    """
    state = loaded.get(STATE)
    if state is not None and _PLACE in state:
        _take_shards(trainer, module, averager, state)
        return
    if TRAINED in loaded:
        load_weights(module, loaded[TRAINED])
    if state is not None:
        averager.load_state_dict(state)


def load_weights(module: LightningModule, trained: dict[str, Any]) -> None:
    """Load weights into a module; whole ones also where each process has its shards of them."""
    if _has_shards(module.state_dict()) and not _has_shards(trained):
        options = StateDictOptions(full_state_dict=True, strict=module.strict_loading)
        set_model_state_dict(module, trained, options=options)
    else:
        module.load_state_dict(trained, strict=module.strict_loading)


def _put_shards(
    checkpoint: dict[str, Any], averaged: dict[str, Any], trained: dict[str, Any], state: dict[str, Any]
) -> None:
    key = f"optimizer_{len(checkpoint['optimizer_states'])}"
    names = [list(snapshot) for snapshot in state["snapshots"]]
    checkpoint["state_dict"] = dict(plain_names(averaged))
    checkpoint["optimizer_states"].append(_shards(trained, state["averages"], state["snapshots"]))
    checkpoint[STATE] = {**state, "averages": {}, "snapshots": names, _PLACE: key}


def _take_shards(
    trainer: Trainer, module: LightningModule, averager: Averager | PostHocEMA, state: dict[str, Any]
) -> None:
    averages = averager.state_dict()["averages"]
    snapshots = [{name: zeros_like(averages[name]) for name in names} for names in state["snapshots"]]
    tensors = _shards(module.state_dict(), averages, snapshots)
    load({state[_PLACE]: tensors}, checkpoint_id=trainer.strategy.broadcast(trainer.ckpt_path))  # in place
    state = {name: value for name, value in state.items() if name != _PLACE}
    averager.load_state_dict({**state, "averages": averages, "snapshots": snapshots})


def _shards(trained: dict[str, Any], averages: dict[str, Tensor], snapshots: list[dict[str, Tensor]]) -> dict[str, Any]:
    weights = {name: value for name, value in plain_names(trained).items() if isinstance(value, Tensor)}
    return {TRAINED: weights, "averages": averages, "snapshots": {str(i): s for i, s in enumerate(snapshots)}}


def _has_shards(state: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) and is_sharded(value) for value in state.values())
