"""What the estimators share."""

from typing import Any

import numpy as np


def seed_from(state: np.random.RandomState) -> int:
    """A seed for torch's generators."""
    return int(state.randint(2**31 - 1))


def plain(value: Any) -> Any:
    """A number of Python: grids of parameters hold those of numpy."""
    return value.item() if isinstance(value, np.generic) else value
