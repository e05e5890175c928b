"""Energy-based models: p(x) = exp(-E(x)) / Z, trained, sampled and evaluated."""

import importlib
from typing import Any

from energeia.core.algebra import any_of, given, without
from energeia.core.constrain import unconstrained
from energeia.core.energy import (
    Bipartite,
    Classes,
    Conditional,
    Energy,
    Factorised,
    Local,
    Pairwise,
    Tractable,
    from_module,
    require,
)
from energeia.core.errors import CapabilityError, CheckpointError, DivergenceError, EnergeiaError, InputError
from energeia.core.gradient import score, value_and_gradient
from energeia.core.objective import Objective
from energeia.core.random import Streams
from energeia.core.record import Batch, Draws, Info, LogZ, Loss
from energeia.core.sampler import Sampler, sample
from energeia.core.space import Binary, Box, Categorical, Positive, Real, Simplex, Space, Spin
from energeia.core.transform import Transform
from energeia.energies import (
    MLP,
    RBM,
    BoltzmannMachine,
    Classifier,
    ConvNet,
    Enumerated,
    Gaussian,
    Independent,
    Ising,
    IsingLattice,
    Neural,
    PairwiseMRF,
    Potts,
    Uniform,
    hebb,
    mean_field_inversion,
    retrieve,
)
from energeia.objectives import (
    ContrastiveDivergence,
    CrossEntropy,
    ExactLikelihood,
    Joint,
    MeanFieldCD,
    MinimumProbabilityFlow,
    Penalised,
    PersistentCD,
    PerturbAndMAP,
    PseudoLikelihood,
    RatioMatching,
    Replay,
)
from energeia.partition import LogLikelihood, ais, exact_log_z, fitted_base, log_likelihood, reverse_ais
from energeia.samplers import (
    HMC,
    MALA,
    AnnealedLangevin,
    BlockGibbs,
    DenseMass,
    DiagonalMass,
    DiscreteLangevin,
    Gibbs,
    GibbsWithGradients,
    Langevin,
    Mass,
    Metropolis,
    ParallelTempering,
    RandomWalk,
    SwendsenWang,
    TemperedTransitions,
    UnderdampedLangevin,
)
from energeia.stats import Summary, effective_sample_size, r_hat, summary, to_arviz
from energeia.train import Guard, Result, fit, sample_parallel

__version__ = "0.1.0"

__all__ = [
    "AnnealedLangevin",
    "Batch",
    "Binary",
    "Bipartite",
    "BlockGibbs",
    "BoltzmannMachine",
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
    "DenseMass",
    "DiagonalMass",
    "DiscreteLangevin",
    "DivergenceError",
    "Draws",
    "EnergeiaError",
    "Energy",
    "Enumerated",
    "ExactLikelihood",
    "Factorised",
    "Gaussian",
    "Gibbs",
    "GibbsWithGradients",
    "Guard",
    "HMC",
    "Independent",
    "Info",
    "InputError",
    "Ising",
    "IsingLattice",
    "Joint",
    "Langevin",
    "Local",
    "LogLikelihood",
    "LogZ",
    "Loss",
    "MALA",
    "MLP",
    "Mass",
    "MeanFieldCD",
    "Metropolis",
    "MinimumProbabilityFlow",
    "Neural",
    "Objective",
    "Pairwise",
    "PairwiseMRF",
    "Penalised",
    "ParallelTempering",
    "PersistentCD",
    "PerturbAndMAP",
    "Positive",
    "Potts",
    "PseudoLikelihood",
    "RBM",
    "RandomWalk",
    "RatioMatching",
    "Real",
    "Replay",
    "Result",
    "Sampler",
    "Simplex",
    "Space",
    "Spin",
    "Streams",
    "Summary",
    "SwendsenWang",
    "TemperedTransitions",
    "Tractable",
    "Transform",
    "UnderdampedLangevin",
    "Uniform",
    "ais",
    "any_of",
    "effective_sample_size",
    "exact_log_z",
    "fit",
    "fitted_base",
    "from_module",
    "given",
    "hebb",
    "log_likelihood",
    "mean_field_inversion",
    "r_hat",
    "require",
    "retrieve",
    "reverse_ais",
    "sample",
    "sample_parallel",
    "score",
    "summary",
    "to_arviz",
    "unconstrained",
    "value_and_gradient",
    "without",
]


def __getattr__(name: str) -> Any:
    """`en.sklearn`, imported when it is asked for: scikit-learn takes a second, which others need not wait for."""
    if name == "sklearn":
        return importlib.import_module("energeia.sklearn")
    raise AttributeError(f"module 'energeia' has no attribute {name!r}")
