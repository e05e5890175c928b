"""Losses that train energies."""

from energeia.objectives.adversarial import AdversarialLikelihood
from energeia.objectives.bregman import Bregman, Logistic, Power
from energeia.objectives.concrete import ConcreteScoreMatching
from energeia.objectives.conditional_likelihood import ConditionalLikelihood, MinimumEmpiricalError
from energeia.objectives.conditional_noise import ConditionalNCE
from energeia.objectives.conditional_ranking import ConditionalRanking
from energeia.objectives.conditioned import Conditioned
from energeia.objectives.contrastive import Contrastive, ContrastiveDivergence, PersistentCD
from energeia.objectives.coupled import UnbiasedCD
from energeia.objectives.decision import DirectLoss, StructuredHinge
from energeia.objectives.deep import MeanFieldPosterior
from energeia.objectives.denoising import DenoisingScoreMatching, MultiScaleDenoising
from energeia.objectives.discrepancy import EnergyDiscrepancy
from energeia.objectives.flow import AdversarialNCE, FlowContrast, LearnedNoise
from energeia.objectives.generator import Generator
from energeia.objectives.improved import ImprovedCD
from energeia.objectives.joint import CrossEntropy, Joint
from energeia.objectives.likelihood import ExactLikelihood
from energeia.objectives.margin import EnergyLoss, Margin, Perceptron
from energeia.objectives.matching import EnergyMatching
from energeia.objectives.meanfield import MeanFieldCD
from energeia.objectives.mpf import MinimumProbabilityFlow
from energeia.objectives.multigrid import MultigridCD
from energeia.objectives.noise import NoiseContrast, RatioEstimate
from energeia.objectives.penalty import Penalised
from energeia.objectives.perturb import PerturbAndMAP
from energeia.objectives.pseudo import PseudoLikelihood
from energeia.objectives.ranking import RankingNCE
from energeia.objectives.ratio import RatioMatching
from energeia.objectives.recovery import DiffusionRecovery
from energeia.objectives.replay import Replay
from energeia.objectives.score import FiniteDifferenceScoreMatching, ScoreMatching, SlicedScoreMatching
from energeia.objectives.sites import SiteScore
from energeia.objectives.sparse import Sparse
from energeia.objectives.stein import KernelStein, LearnedStein
from energeia.objectives.unrolled import Unrolled
from energeia.objectives.wake_sleep import WakeSleep

__all__ = [
    "AdversarialLikelihood",
    "AdversarialNCE",
    "Bregman",
    "ConcreteScoreMatching",
    "ConditionalLikelihood",
    "ConditionalNCE",
    "ConditionalRanking",
    "Conditioned",
    "Contrastive",
    "ContrastiveDivergence",
    "CrossEntropy",
    "DenoisingScoreMatching",
    "DiffusionRecovery",
    "DirectLoss",
    "EnergyDiscrepancy",
    "EnergyLoss",
    "EnergyMatching",
    "ExactLikelihood",
    "FiniteDifferenceScoreMatching",
    "FlowContrast",
    "Generator",
    "ImprovedCD",
    "Joint",
    "KernelStein",
    "LearnedNoise",
    "LearnedStein",
    "Logistic",
    "Margin",
    "MeanFieldCD",
    "MeanFieldPosterior",
    "MinimumEmpiricalError",
    "MinimumProbabilityFlow",
    "MultiScaleDenoising",
    "MultigridCD",
    "NoiseContrast",
    "Penalised",
    "Perceptron",
    "PersistentCD",
    "PerturbAndMAP",
    "Power",
    "PseudoLikelihood",
    "RankingNCE",
    "RatioEstimate",
    "RatioMatching",
    "Replay",
    "ScoreMatching",
    "SiteScore",
    "SlicedScoreMatching",
    "Sparse",
    "StructuredHinge",
    "UnbiasedCD",
    "Unrolled",
    "WakeSleep",
]
