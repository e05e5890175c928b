"""Energies: networks, classifiers and the tractable references."""

from energeia.energies.classifier import Classifier
from energeia.energies.neural import MLP, ConvNet, Neural
from energeia.energies.reference import Gaussian, Independent, Uniform

__all__ = ["MLP", "Classifier", "ConvNet", "Gaussian", "Independent", "Neural", "Uniform"]
