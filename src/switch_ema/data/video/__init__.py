"""Videos: generated digits that move, and clips of stored frames."""
