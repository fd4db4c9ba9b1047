"""Video prediction: the frames that follow those that are given."""
