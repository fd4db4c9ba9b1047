# To be sourced: the package from src/, further packages from $WHEELS, and a word on what is missing.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
PYTHON=${PYTHON:-python3}
export PYTHONPATH="src:.${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH="$site:$PYTHONPATH"
fi

"$PYTHON" - <<'CHECK' || exit 2
import sys
from importlib.util import find_spec

def missing(names):
    return " ".join(name for name in names.split() if find_spec(name) is None)

needed = missing("torch torchvision timm lightning numpy scipy sklearn PIL pyarrow pydantic plotly typer rich yaml safetensors")
optional = missing("pytorch_optimizer lightly ema_pytorch torch_ema diffusers")
if optional:
    print(f"not here, gone on without: {optional}", flush=True)
if needed:
    sys.exit(f"missing: {needed}; install them, or bring wheels in a folder and name it in WHEELS (benchmarks/gpu/README.md)")
CHECK
