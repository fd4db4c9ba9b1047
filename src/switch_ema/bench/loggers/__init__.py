"""Copies of the measurements in the trackers that people use, each through its own client."""
