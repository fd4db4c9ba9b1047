"""Data for object detection and instance segmentation: images, boxes, masks."""
