"""The averaging core: decay rules, triggers, averagers. It imports torch and nothing else."""
