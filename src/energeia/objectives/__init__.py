"""Losses that train energies."""

from energeia.objectives.adversarial import AdversarialLikelihood
from energeia.objectives.bregman import Bregman, Logistic, Power
from energeia.objectives.conditional_noise import ConditionalNCE
from energeia.objectives.conditioned import Conditioned
from energeia.objectives.contrastive import Contrastive, ContrastiveDivergence, PersistentCD
from energeia.objectives.deep import MeanFieldPosterior
from energeia.objectives.flow import AdversarialNCE, FlowContrast, LearnedNoise
from energeia.objectives.generator import Generator
from energeia.objectives.joint import CrossEntropy, Joint
from energeia.objectives.likelihood import ExactLikelihood
from energeia.objectives.meanfield import MeanFieldCD
from energeia.objectives.mpf import MinimumProbabilityFlow
from energeia.objectives.noise import NoiseContrast, RatioEstimate
from energeia.objectives.penalty import Penalised
from energeia.objectives.perturb import PerturbAndMAP
from energeia.objectives.pseudo import PseudoLikelihood
from energeia.objectives.ranking import RankingNCE
from energeia.objectives.ratio import RatioMatching
from energeia.objectives.replay import Replay
from energeia.objectives.sites import SiteScore
from energeia.objectives.sparse import Sparse
from energeia.objectives.wake_sleep import WakeSleep

__all__ = [
    "AdversarialLikelihood",
    "AdversarialNCE",
    "Bregman",
    "ConditionalNCE",
    "Conditioned",
    "Contrastive",
    "ContrastiveDivergence",
    "CrossEntropy",
    "ExactLikelihood",
    "FlowContrast",
    "Generator",
    "Joint",
    "LearnedNoise",
    "Logistic",
    "MeanFieldCD",
    "MeanFieldPosterior",
    "MinimumProbabilityFlow",
    "NoiseContrast",
    "Penalised",
    "PersistentCD",
    "PerturbAndMAP",
    "Power",
    "PseudoLikelihood",
    "RankingNCE",
    "RatioEstimate",
    "RatioMatching",
    "Replay",
    "SiteScore",
    "Sparse",
    "WakeSleep",
]
