"""Losses that train energies."""

from energeia.objectives.concrete import ConcreteScoreMatching
from energeia.objectives.conditioned import Conditioned
from energeia.objectives.contrastive import Contrastive, ContrastiveDivergence, PersistentCD
from energeia.objectives.coupled import UnbiasedCD
from energeia.objectives.deep import MeanFieldPosterior
from energeia.objectives.denoising import DenoisingScoreMatching, MultiScaleDenoising
from energeia.objectives.discrepancy import EnergyDiscrepancy
from energeia.objectives.improved import ImprovedCD
from energeia.objectives.joint import CrossEntropy, Joint
from energeia.objectives.likelihood import ExactLikelihood
from energeia.objectives.matching import EnergyMatching
from energeia.objectives.meanfield import MeanFieldCD
from energeia.objectives.mpf import MinimumProbabilityFlow
from energeia.objectives.multigrid import MultigridCD
from energeia.objectives.penalty import Penalised
from energeia.objectives.perturb import PerturbAndMAP
from energeia.objectives.pseudo import PseudoLikelihood
from energeia.objectives.ratio import RatioMatching
from energeia.objectives.recovery import DiffusionRecovery
from energeia.objectives.replay import Replay
from energeia.objectives.score import FiniteDifferenceScoreMatching, ScoreMatching, SlicedScoreMatching
from energeia.objectives.sites import SiteScore
from energeia.objectives.sparse import Sparse
from energeia.objectives.stein import KernelStein, LearnedStein
from energeia.objectives.wake_sleep import WakeSleep

__all__ = [
    "ConcreteScoreMatching",
    "Conditioned",
    "Contrastive",
    "ContrastiveDivergence",
    "CrossEntropy",
    "DenoisingScoreMatching",
    "DiffusionRecovery",
    "EnergyDiscrepancy",
    "EnergyMatching",
    "ExactLikelihood",
    "FiniteDifferenceScoreMatching",
    "ImprovedCD",
    "Joint",
    "KernelStein",
    "LearnedStein",
    "MeanFieldCD",
    "MeanFieldPosterior",
    "MinimumProbabilityFlow",
    "MultiScaleDenoising",
    "MultigridCD",
    "Penalised",
    "PersistentCD",
    "PerturbAndMAP",
    "PseudoLikelihood",
    "RatioMatching",
    "Replay",
    "ScoreMatching",
    "SiteScore",
    "SlicedScoreMatching",
    "Sparse",
    "UnbiasedCD",
    "WakeSleep",
]
