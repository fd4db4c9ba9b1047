"""A Ray cluster: its address, and being connected to it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from switch_ema.bench.settings import Settings
from switch_ema.errors import FieldError
from switch_ema.libraries import require

LOCAL = "ray"
_CLIENT = "ray://"
_PATIENCE_SECONDS = 5.0  # for an address that does not answer


def check_cluster(address: str, settings: Settings) -> None:
    """Refuse what can be refused of a cluster without connecting to it.

    Args:
        address: `ray`, or `ray://HOST:PORT`.
        settings: What is asked of the comparison.

    Raises:
        FieldError: The address is none, or a training run is to use several devices or processes.
        MissingLibraryError: Ray is not installed.
    """
    if address != LOCAL:
        _host_and_port(address)
    if settings.devices > 1 or settings.strategy != "auto":
        raise FieldError(
            "cluster",
            f"{address}: a training run on a cluster has one device; leave --devices and --strategy out, or leave "
            "--cluster out and start the comparison with torchrun",
        )
    require("--cluster", "ray>=2.40", extra="ray")
    if address.startswith(_CLIENT):
        require(f"--cluster {_CLIENT}", "grpc", extra="ray")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be connected to a cluster for the length of a block: to the one we are connected to already, if there is one.

    Args:
        address: `ray`, or `ray://HOST:PORT`.

    Raises:
        InputError: It cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    there = os.environ.get("RAY_ADDRESS", "local") if address == LOCAL else address
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if there == "local":
        options["include_dashboard"] = False
    elif there != "auto":
        _knock(there)
    try:
        ray.init(address=there, **options)
    except (OSError, RuntimeError, ValueError) as error:
        token = "; if it asks for a token, set RAY_AUTH_MODE=token" if there != "local" else ""
        raise _unreachable(there, _in_a_line(str(error)) + token) from error
    try:
        yield
    finally:
        ray.shutdown()


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of an address."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        if parts.scheme in ("", "ray") and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise FieldError("cluster", f"{address}: no address of a cluster; write ray, or ray://HOST:PORT (often 10001)")


def _knock(address: str) -> None:
    """Find out in seconds that nobody answers; Ray itself would try for minutes."""
    place = _host_and_port(address)
    try:
        socket.create_connection(place, timeout=_PATIENCE_SECONDS).close()
        if address.startswith(_CLIENT):
            grpc: Any = import_module("grpc")
            with grpc.insecure_channel(f"{place[0]}:{place[1]}") as channel:
                grpc.channel_ready_future(channel).result(timeout=_PATIENCE_SECONDS)
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error
    except Exception as error:  # grpc's own
        raise _unreachable(address, "no Ray client server answers there") from error


def _in_a_line(message: str) -> str:
    """Return the first line of an error, or the last where the first only says that more follows, as a traceback."""
    lines = message.strip().splitlines() or ["no reason given"]
    return lines[-1 if lines[0].endswith(":") else 0].strip()


def _unreachable(address: str, why: str) -> FieldError:
    where = "" if address == "local" else f" {address}"
    return FieldError("cluster", f"cannot reach the Ray cluster{where} ({why}); start it, or write another address")
