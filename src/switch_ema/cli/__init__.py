"""The command line, `sema`: reads options, calls the bench, and turns wrong input into one line and exit code 2."""

from switch_ema.cli import doctor, training, tuning, views, weights  # each adds its commands to the application
from switch_ema.cli.app import app, main

__all__ = ["app", "doctor", "main", "training", "tuning", "views", "weights"]
