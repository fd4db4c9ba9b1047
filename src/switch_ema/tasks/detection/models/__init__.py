"""Detectors by name; `names` needs the standard library only, `build` makes them."""
