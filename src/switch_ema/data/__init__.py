"""Data sets: finding, checking, reading and splitting them; nothing here knows of torch, tasks or training."""
