"""Warnings that point at the caller's own line, however deep in the package they are raised."""

import sys
import warnings

# First names of the modules that may lie between a caller's line and the line that warns.
_BETWEEN = {__name__.partition(".")[0], "torch", "lightning_fabric", "sklearn"}


def warn(message: str) -> None:
    """A `UserWarning` at the nearest line that is neither of this package nor of the libraries it is called through."""
    frame, level = sys._getframe(1), 2  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
