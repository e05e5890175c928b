"""Markov transitions."""

from energeia.samplers.langevin import MALA, Langevin
from energeia.samplers.metropolis import RandomWalk

__all__ = ["MALA", "Langevin", "RandomWalk"]
