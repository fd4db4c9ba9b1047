"""Experiments and checks for a GPU that is lent for minutes at a time."""
