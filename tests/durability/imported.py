"""Imports what a comparison needs, once, in the process that the others are forked from."""

import lightning.fabric
import plotly
import pydantic
import rich.progress
import safetensors.torch
import scipy.stats
import sklearn.datasets
import torch

import switch_ema.bench.checkpoint
import switch_ema.bench.report
import switch_ema.bench.studies.theory
import switch_ema.bench.train
import switch_ema.tasks.points
import tests.durability.ddp
import tests.durability.work

__all__ = ["lightning", "plotly", "pydantic", "rich", "safetensors", "scipy", "sklearn", "switch_ema", "tests", "torch"]

torch.set_num_threads(1)  # a process with threads cannot be forked safely
