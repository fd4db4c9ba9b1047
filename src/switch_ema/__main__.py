"""`python -m switch_ema` is `sema`."""

from switch_ema.cli import main

main()
