"""Networks that predict the frames of a video, all with untrained weights; `names` needs the standard library only."""
