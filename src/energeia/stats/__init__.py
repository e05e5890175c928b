"""Numbers that say how far to believe a model: chain diagnostics, calibration and distances between samples."""

from energeia.stats.chains import effective_sample_size, r_hat, summary, to_arviz
from energeia.stats.diagnosis import Summary

__all__ = ["Summary", "effective_sample_size", "r_hat", "summary", "to_arviz"]
