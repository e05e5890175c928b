"""Losses that train energies."""

from energeia.objectives.contrastive import Contrastive, ContrastiveDivergence, PersistentCD
from energeia.objectives.joint import CrossEntropy, Joint
from energeia.objectives.likelihood import ExactLikelihood
from energeia.objectives.replay import Replay

__all__ = ["Contrastive", "ContrastiveDivergence", "CrossEntropy", "ExactLikelihood", "Joint", "PersistentCD", "Replay"]
