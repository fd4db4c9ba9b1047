"""The bench: plans, trains and reports paired comparisons of averaging methods."""
