"""Energeia and other libraries side by side: the same target, the same step, in turn, in one process."""
