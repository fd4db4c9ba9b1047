"""Tests of the averaging core."""
