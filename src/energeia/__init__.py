"""Energy-based models: p(x) = exp(-E(x)) / Z, trained, sampled and evaluated."""

from energeia.core.algebra import any_of, given, without
from energeia.core.energy import Classes, Conditional, Energy, Tractable, from_module, require
from energeia.core.errors import CapabilityError, CheckpointError, DivergenceError, EnergeiaError, InputError
from energeia.core.gradient import score, value_and_gradient
from energeia.core.objective import Objective
from energeia.core.random import Streams
from energeia.core.record import Batch, Draws, Info, LogZ, Loss
from energeia.core.sampler import Sampler, sample
from energeia.core.space import Binary, Box, Categorical, Real, Space, Spin
from energeia.core.transform import Transform
from energeia.energies import MLP, Classifier, ConvNet, Gaussian, Independent, Neural, Uniform
from energeia.objectives import ContrastiveDivergence, CrossEntropy, ExactLikelihood, Joint, PersistentCD, Replay
from energeia.partition import exact_log_z
from energeia.samplers import MALA, Langevin, RandomWalk
from energeia.train import Guard, Result, fit

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Binary",
    "Box",
    "CapabilityError",
    "Categorical",
    "CheckpointError",
    "Classes",
    "Classifier",
    "Conditional",
    "ContrastiveDivergence",
    "ConvNet",
    "CrossEntropy",
    "DivergenceError",
    "Draws",
    "EnergeiaError",
    "Energy",
    "ExactLikelihood",
    "Gaussian",
    "Guard",
    "Independent",
    "Info",
    "InputError",
    "Joint",
    "Langevin",
    "LogZ",
    "Loss",
    "MALA",
    "MLP",
    "Neural",
    "Objective",
    "PersistentCD",
    "RandomWalk",
    "Real",
    "Replay",
    "Result",
    "Sampler",
    "Space",
    "Spin",
    "Streams",
    "Tractable",
    "Transform",
    "Uniform",
    "any_of",
    "exact_log_z",
    "fit",
    "from_module",
    "given",
    "require",
    "sample",
    "score",
    "value_and_gradient",
    "without",
]
