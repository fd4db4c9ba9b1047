#!/usr/bin/env bash
# A step of CIFAR-10 with ResNet-18: main, rates or collect; exit code 3 means that more is left. See README.md.
source "$(dirname "$0")/environment.sh"
exec "$PYTHON" -m benchmarks.gpu.cifar10_resnet18 "$@"
