"""`sema` with a checkpoint after every epoch; a machine that is to be lost is lost after some of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from switch_ema import cli
from switch_ema.bench import progress, train
from switch_ema.bench.plan import Trajectory
from switch_ema.bench.results import Row

LOST_AFTER = "LOST_AFTER"  # the variable with the number of epochs


class Mortal(progress.LiveProgress):
    """Kills this process and the agent that has started it."""

    def epoch(self, trajectory: Trajectory, epoch: int, rows: Sequence[Row]) -> None:
        """Be lost, if it is time."""
        if os.environ.get(LOST_AFTER) == str(epoch) and os.environ["RANK"] == "1":
            os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        super().epoch(trajectory, epoch, rows)


if __name__ == "__main__":
    train._CHECKPOINT_SECONDS = 0.0
    progress.LiveProgress = Mortal  # type: ignore[misc]
    sys.argv[0] = "sema"
    cli.main()
