"""Augmentation of image batches where they lie: random numbers drawn once on the CPU, used for all samples at once."""
