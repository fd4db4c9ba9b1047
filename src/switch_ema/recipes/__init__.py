"""Settings of experiments as YAML files, one a file: those of the papers, and small ones for a CPU."""
