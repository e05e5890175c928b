"""Markov transitions."""

from energeia.samplers.annealed import AnnealedLangevin
from energeia.samplers.block_gibbs import BlockGibbs
from energeia.samplers.cluster import SwendsenWang
from energeia.samplers.diffusion import ReverseDiffusion
from energeia.samplers.flips import Metropolis
from energeia.samplers.flow import FlowLangevin
from energeia.samplers.gibbs import Gibbs
from energeia.samplers.gradient import DiscreteLangevin, GibbsWithGradients
from energeia.samplers.hmc import HMC
from energeia.samplers.langevin import MALA, Langevin
from energeia.samplers.mass import DenseMass, DiagonalMass, Mass
from energeia.samplers.metropolis import RandomWalk
from energeia.samplers.recovery import RecoveryLangevin
from energeia.samplers.tempering import ParallelTempering, TemperedTransitions
from energeia.samplers.underdamped import UnderdampedLangevin

__all__ = [
    "HMC",
    "MALA",
    "AnnealedLangevin",
    "BlockGibbs",
    "DenseMass",
    "DiagonalMass",
    "DiscreteLangevin",
    "FlowLangevin",
    "Gibbs",
    "GibbsWithGradients",
    "Langevin",
    "Mass",
    "Metropolis",
    "ParallelTempering",
    "RandomWalk",
    "RecoveryLangevin",
    "ReverseDiffusion",
    "SwendsenWang",
    "TemperedTransitions",
    "UnderdampedLangevin",
]
