"""Energies: networks, classifiers, the tractable references, and targets whose truth is known."""

from energeia.energies.boltzmann import BoltzmannMachine
from energeia.energies.classifier import Classifier
from energeia.energies.enumerated import Enumerated
from energeia.energies.gaussians import CorrelatedGaussian, GaussianMixture, four_gaussians
from energeia.energies.hopfield import Retrieval, hebb, retrieve
from energeia.energies.inversion import mean_field_inversion
from energeia.energies.maxima import pulled_maxima
from energeia.energies.mrf import PairwiseMRF
from energeia.energies.neural import MLP, ConvNet, Neural
from energeia.energies.pairwise import Ising, IsingLattice, Potts
from energeia.energies.phi4 import Phi4
from energeia.energies.posteriors import EightSchools, LogisticRegression, SchoolParameters
from energeia.energies.rbm import RBM
from energeia.energies.reference import Gaussian, Independent, Uniform
from energeia.energies.toy import Banana, DoubleWell, Funnel, Ring, Rosenbrock
from energeia.energies.truth import KnownMoments, Moments

__all__ = [
    "Banana",
    "BoltzmannMachine",
    "Classifier",
    "ConvNet",
    "CorrelatedGaussian",
    "DoubleWell",
    "EightSchools",
    "Enumerated",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "Independent",
    "Ising",
    "IsingLattice",
    "KnownMoments",
    "LogisticRegression",
    "MLP",
    "Moments",
    "Neural",
    "PairwiseMRF",
    "Phi4",
    "Potts",
    "RBM",
    "Retrieval",
    "Ring",
    "Rosenbrock",
    "SchoolParameters",
    "Uniform",
    "four_gaussians",
    "hebb",
    "mean_field_inversion",
    "pulled_maxima",
    "retrieve",
]
