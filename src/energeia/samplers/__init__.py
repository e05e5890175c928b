"""Markov transitions."""

from energeia.samplers.annealed import AnnealedLangevin
from energeia.samplers.gibbs import BlockGibbs, Gibbs
from energeia.samplers.hmc import HMC
from energeia.samplers.langevin import MALA, Langevin, UnderdampedLangevin
from energeia.samplers.mass import DenseMass, DiagonalMass, Mass
from energeia.samplers.metropolis import RandomWalk
from energeia.samplers.tempering import ParallelTempering, TemperedTransitions

__all__ = [
    "AnnealedLangevin",
    "BlockGibbs",
    "DenseMass",
    "DiagonalMass",
    "Gibbs",
    "HMC",
    "Langevin",
    "MALA",
    "Mass",
    "ParallelTempering",
    "RandomWalk",
    "TemperedTransitions",
    "UnderdampedLangevin",
]
