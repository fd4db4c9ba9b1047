"""Coverage-guided fuzzing of one reader: `python -m tests.durability.fuzz NUMBER SECONDS` with atheris installed.

Inputs are damaged copies of a whole file, and whatever atheris makes of them while watching which lines they reach.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

_MEGABYTES, _HANG_SECONDS, _LONGEST_INPUT = 4096, 60, 8192


def main(number: int, seconds: int) -> None:
    """Fuzz the reader of that number; atheris ends the process, with another code than 0 after a fault."""
    import atheris

    with atheris.instrument_imports(include=["switch_ema", "yaml"], enable_loader_override=False):
        from tests.durability.readers import READERS, read_damaged
    warnings.simplefilter("ignore")
    reader = READERS[number]
    folder = Path(tempfile.mkdtemp())
    path = reader.make(folder)
    corpus = Path(tempfile.mkdtemp())
    (corpus / "whole").write_bytes(path.read_bytes()[:_LONGEST_INPUT])
    options = [f"-max_total_time={seconds}", f"-rss_limit_mb={_MEGABYTES}", f"-timeout={_HANG_SECONDS}"]
    options += [f"-max_len={_LONGEST_INPUT}", "-seed=1", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: read_damaged(reader, folder, path, data))
    atheris.Fuzz()


def fuzz(number: int, seconds: int) -> tuple[int, str]:
    """Fuzz a reader in a process of its own.

    Returns:
        How many inputs it was given, and what went wrong, or an empty text.
    """
    command = [sys.executable, "-m", "tests.durability.fuzz", str(number), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20 * seconds + 600)
    lines = ended.stderr.splitlines()
    done = next((line for line in lines if line.startswith("Done ")), "Done 0")
    return int(done.split()[1]), "" if ended.returncode == 0 else " / ".join(lines[-6:])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
