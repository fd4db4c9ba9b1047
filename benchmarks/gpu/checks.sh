#!/usr/bin/env bash
# What needs a GPU, in this order, each with a time limit: tests, averages beside other libraries, training throughput.
# Names after the command choose among them; `comparison`, a step of its own, is run only when it is named.
source "$(dirname "$0")/environment.sh"
out=${OUT:-runs/gpu/checks}
device=${DEVICE:-cuda}
mkdir -p "$out"
failed=()

limited() {  # name, seconds, command
  local name=$1 seconds=$2
  shift 2
  echo "== $name, at most $seconds s"
  timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$out/$name.log"
  local code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || failed+=("$name ($code)")
}

for check in ${*:-tests averages training}; do
  case $check in
    tests)  # warnings of other versions are not what is tested here
      mapfile -t files < <(grep -rl --include='*.py' 'pytest.mark.gpu' tests)
      limited tests 150 "$PYTHON" -m pytest -m gpu -W default -p no:cacheprovider "${files[@]}" ;;
    averages)
      limited averages 240 "$PYTHON" -m benchmarks.run --device "$device" --without-missing --rounds 20 \
        --only update swap memory step --out "$out/averages" ;;
    training)
      limited training 180 "$PYTHON" -m benchmarks.run --device "$device" --without-missing --rounds 12 \
        --only training data --out "$out/training" ;;
    comparison)
      limited comparison 570 "$PYTHON" -m benchmarks.run --device "$device" --without-missing --rounds 20 \
        --only comparison --eval-every 1 --out "$out/comparison" ;;
    *) echo "checks.sh: unknown check '$check'; write tests, averages, training or comparison" >&2; exit 2 ;;
  esac
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed (124: out of time): ${failed[*]}"
  exit 1
fi
echo "all done"
