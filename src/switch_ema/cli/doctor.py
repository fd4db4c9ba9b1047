"""The command that looks at the machine: versions, devices, and what is missing for what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from switch_ema.cli.app import app
from switch_ema.cli.options import option


@app.command()
def doctor(
    as_json: Annotated[bool, option("Print everything that was found as JSON.", "Output", "--json")] = False,
) -> None:
    """Say which versions and devices are here, what is installed, which tasks can run, and how to get what is missing.

    **Example**: `sema doctor`
    """
    from switch_ema.bench.doctor import examine

    found = examine()
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was found as lines for people."""
    for name, value in {**found["versions"], **found["where"]}.items():
        yield f"{name:10}  {value or 'does not load'}"
    yield from (f"device      {device}" for device in found["devices"])
    yield from (f"TROUBLE     {trouble}" for trouble in found["trouble"])
    for title, entries in (("tasks", found["tasks"]), ("parts", found["parts"])):
        yield f"\n{title}"
        width = max(map(len, entries), default=0)
        for name, entry in entries.items():
            yield f"  {'ok' if entry['ready'] else '--'}  {name:{width}}  {entry['for']}"
            if not entry["ready"]:
                yield f"      {'':{width}}  {'; '.join(entry['missing'])}; run: {entry['run']}"
    libraries = {name: version for part in found["parts"].values() for name, version in part["installed"].items()}
    yield "\nlibraries"
    yield "  " + ", ".join(f"{name} {version}" for name, version in sorted(libraries.items()))
