"""Energies: networks, classifiers, the tractable references, and targets whose truth is known."""

from energeia.energies.autoregressive import Autoregressive
from energeia.energies.boltzmann import BoltzmannMachine
from energeia.energies.classification_rbm import ClassificationRBM
from energeia.energies.classifier import Classifier
from energeia.energies.conditional_rbm import ConditionalRBM, NextFrame, windows
from energeia.energies.crf import LinearChain, PairwiseCRF, lattice
from energeia.energies.curie_weiss import CurieWeiss
from energeia.energies.dbm import DBM, MeanField, MeanFieldBound
from energeia.energies.dbn import DBN
from energeia.energies.deep_joint import DeepJoint
from energeia.energies.distribution import Distribution
from energeia.energies.enumerated import Enumerated
from energeia.energies.fitted import fitted_base, fitted_noise
from energeia.energies.flow import Flow
from energeia.energies.fourier import FourierMLP
from energeia.energies.gated import GatedRBM
from energeia.energies.gaussians import CorrelatedGaussian, GaussianMixture, four_gaussians
from energeia.energies.hopfield import Retrieval, hebb, retrieve
from energeia.energies.inversion import mean_field_inversion
from energeia.energies.kernel import KernelDensity
from energeia.energies.maxima import pulled_maxima
from energeia.energies.mrf import PairwiseMRF
from energeia.energies.neural import MLP, ConvNet, Neural
from energeia.energies.noise_conditional import LevelMLP, NoiseConditional, NoiseConditionalScore
from energeia.energies.onsager import kaufman_log_z, onsager_log_z, yang_magnetisation
from energeia.energies.pair import Jointly, answering, from_pair
from energeia.energies.pairwise import Ising, IsingLattice, Potts
from energeia.energies.phi4 import Phi4
from energeia.energies.planar import PLANAR, Planar
from energeia.energies.posteriors import EightSchools, LogisticRegression, SchoolParameters
from energeia.energies.rbm import RBM
from energeia.energies.reference import Gaussian, Independent, Uniform
from energeia.energies.replicated import ReplicatedSoftmax
from energeia.energies.score_model import ScoreModel
from energeia.energies.semi_markov import SemiMarkovCRF
from energeia.energies.sequence_net import SequenceNet
from energeia.energies.spike_slab import SpikeAndSlabRBM
from energeia.energies.subspace import SubspaceRBM
from energeia.energies.toy import Banana, DoubleWell, Funnel, Ring, Rosenbrock
from energeia.energies.truth import KnownMoments, Moments

__all__ = [
    "DBM",
    "DBN",
    "MLP",
    "PLANAR",
    "RBM",
    "Autoregressive",
    "Banana",
    "BoltzmannMachine",
    "ClassificationRBM",
    "Classifier",
    "ConditionalRBM",
    "ConvNet",
    "CorrelatedGaussian",
    "CurieWeiss",
    "DeepJoint",
    "Distribution",
    "DoubleWell",
    "EightSchools",
    "Enumerated",
    "Flow",
    "FourierMLP",
    "Funnel",
    "GatedRBM",
    "Gaussian",
    "GaussianMixture",
    "Independent",
    "Ising",
    "IsingLattice",
    "Jointly",
    "KernelDensity",
    "KnownMoments",
    "LevelMLP",
    "LinearChain",
    "LogisticRegression",
    "MeanField",
    "MeanFieldBound",
    "Moments",
    "Neural",
    "NextFrame",
    "NoiseConditional",
    "NoiseConditionalScore",
    "PairwiseCRF",
    "PairwiseMRF",
    "Phi4",
    "Planar",
    "Potts",
    "ReplicatedSoftmax",
    "Retrieval",
    "Ring",
    "Rosenbrock",
    "SchoolParameters",
    "ScoreModel",
    "SemiMarkovCRF",
    "SequenceNet",
    "SpikeAndSlabRBM",
    "SubspaceRBM",
    "Uniform",
    "answering",
    "fitted_base",
    "fitted_noise",
    "four_gaussians",
    "from_pair",
    "hebb",
    "kaufman_log_z",
    "lattice",
    "mean_field_inversion",
    "onsager_log_z",
    "pulled_maxima",
    "retrieve",
    "windows",
    "yang_magnetisation",
]
