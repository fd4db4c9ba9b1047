"""Experiments and checks for a GPU that is there for minutes at a time."""
