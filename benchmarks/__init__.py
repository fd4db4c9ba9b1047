"""Our averages beside those of other libraries: speed, memory, and whether they are right. Run it with `make bench`."""
