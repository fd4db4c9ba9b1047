"""Measures of any PyTorch model: sharpness, curvature, landscapes, boundaries, calibration, consistency."""
