"""A Ray cluster with a client server until there is input: `python -m tests.bench.ray_server PORT`."""

from __future__ import annotations

import logging
import sys

import ray
from ray.util.client.server.server import serve

if __name__ == "__main__":
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    server = serve("127.0.0.1", int(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    server.stop(0)
    ray.shutdown()
