"""Learning problems: data, model, loss and metrics, one file per task; nothing here knows of methods or training."""
