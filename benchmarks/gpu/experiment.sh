#!/usr/bin/env bash
# A step of an experiment, or collect; exit code 3 means that more is left. See README.md.
source "$(dirname "$0")/environment.sh"
exec "$PYTHON" -m benchmarks.gpu.experiment "$@"
