"""Numbers that say how far to believe a model: calibration and distances between samples."""
