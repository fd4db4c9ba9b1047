"""What the folder of a study holds: its record, and for each arm a comparison and what was measured of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from switch_ema.bench.files import is_free, refuse_other, write_sealed, write_text
from switch_ema.bench.integrity import extent_of, read_sealed, seal, unseal
from switch_ema.bench.request import as_asked
from switch_ema.bench.results import read_run
from switch_ema.bench.settings import Settings
from switch_ema.bench.stats import Results
from switch_ema.bench.studies.entries import FILE, find_study
from switch_ema.bench.studies.study import Arm, Measured, Reading
from switch_ema.errors import InputError

MEASURED = "measured.json"


def arm_folder(out: Path, arm: Arm) -> Path:
    """Return the folder of an arm, within that of the study."""
    return out / "arms" / arm.name


def check_folder(out: Path, name: str, base: Settings) -> None:
    """Refuse a folder that holds something else than what is left of this study.

    Args:
        out: The folder of the study; it need not exist.
        name: Name of the study.
        base: The settings that its comparisons vary.

    Raises:
        InputError: It holds something else.
    """
    if is_free(out):
        return
    there = read_study(out)
    if there["study"] != name:
        raise InputError(f"--out {out} holds the study {there['study']}; choose another --out")
    refuse_other(out, "study", there["asked"], as_asked(base))


def begin_study(out: Path, name: str, base: Settings, arms: Sequence[Arm], command: str) -> None:
    """Write the record of a study that begins."""
    record = {
        "study": name,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "asked": as_asked(base),
        "arms": [{"name": arm.name, "title": arm.title} for arm in arms],
    }
    write_sealed(out / FILE, record)


def write_measured(folder: Path, measured: Measured) -> None:
    """Write what was measured of an arm into its folder, which is made if need be."""
    lines = "".join(row.line() for row in measured.rows)
    head = seal({"sheets": measured.sheets, "rows": extent_of(lines)})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / MEASURED, json.dumps(head) + "\n" + lines)


def read_study(out: Path) -> dict[str, Any]:
    """Return the record of a study.

    Raises:
        InputError: The folder holds none.
    """
    try:
        record = read_sealed(out / FILE)
        find_study(record["study"])
        return record
    except OSError:
        raise InputError(f"{out} is not the folder of a study; name the folder that 'sema study --out' wrote") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{out / FILE} is damaged; delete the folder or choose another --out") from None


def read_arms(out: Path) -> list[Reading]:
    """Return the arms of a study with what was measured.

    Args:
        out: The folder of the study.

    Raises:
        InputError: A file is damaged or missing.
    """
    return [_read_arm(out / "arms" / arm["name"], arm) for arm in read_study(out)["arms"]]


def _read_arm(folder: Path, arm: Mapping[str, str]) -> Reading:
    sheets: Mapping[str, Any] = {}
    measured: list[Mapping[str, Any]] = []
    path = folder / MEASURED
    if path.exists():
        try:
            sheets, measured = _unpacked(path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged; delete it and give the command again") from None
    if not (folder / "run.json").exists():
        return Reading(arm["name"], arm["title"], {}, None, measured, sheets)
    run, rows = read_run(folder)
    return Reading(arm["name"], arm["title"], run, Results.from_rows(run, [*rows, *measured]), measured, sheets)


def _unpacked(text: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    head, _, lines = text.partition("\n")
    content = unseal(head)
    if content["format"] != 1 and content["rows"] != list(extent_of(lines)):
        raise ValueError("not as it was written")
    return content["sheets"], [json.loads(line) for line in lines.splitlines()]
