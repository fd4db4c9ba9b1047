"""The command `sema`, also `python -m switch_ema`; where the command line is missing, it says what to install."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the packages it needs, name the line that installs them and exit with 2."""
    try:
        from switch_ema.cli import main as run

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("switch_ema"):
            raise
        sys.stderr.write(f'sema: {error.name} is not installed; run: pip install "switch-ema[bench]"\n')
        sys.exit(2)


if __name__ == "__main__":
    main()
