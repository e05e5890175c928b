"""Markov transitions, and the buffer that keeps chains alive between updates."""

from energeia.samplers.langevin import MALA, Langevin
from energeia.samplers.metropolis import RandomWalk
from energeia.samplers.replay import Replay

__all__ = ["MALA", "Langevin", "RandomWalk", "Replay"]
