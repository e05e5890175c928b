"""Energy-based models: p(x) = exp(-E(x)) / Z, trained, sampled and evaluated."""

from energeia.core.algebra import any_of, given, without
from energeia.core.constrain import unconstrained
from energeia.core.energy import (
    Bipartite,
    Classes,
    Conditional,
    Energy,
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
    Classifier,
    ConvNet,
    Gaussian,
    Independent,
    Ising,
    IsingLattice,
    Neural,
    Potts,
    Uniform,
)
from energeia.objectives import ContrastiveDivergence, CrossEntropy, ExactLikelihood, Joint, PersistentCD, Replay
from energeia.partition import exact_log_z
from energeia.samplers import (
    HMC,
    MALA,
    AnnealedLangevin,
    DenseMass,
    DiagonalMass,
    Langevin,
    Mass,
    ParallelTempering,
    RandomWalk,
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
    "DivergenceError",
    "Draws",
    "EnergeiaError",
    "Energy",
    "ExactLikelihood",
    "Gaussian",
    "Guard",
    "HMC",
    "Independent",
    "Info",
    "InputError",
    "Ising",
    "IsingLattice",
    "Joint",
    "Langevin",
    "LogZ",
    "Loss",
    "MALA",
    "MLP",
    "Mass",
    "Neural",
    "Objective",
    "Pairwise",
    "ParallelTempering",
    "PersistentCD",
    "Positive",
    "Potts",
    "RandomWalk",
    "Real",
    "Replay",
    "Result",
    "Sampler",
    "Simplex",
    "Space",
    "Spin",
    "Streams",
    "Summary",
    "TemperedTransitions",
    "Tractable",
    "Transform",
    "UnderdampedLangevin",
    "Uniform",
    "any_of",
    "effective_sample_size",
    "exact_log_z",
    "fit",
    "from_module",
    "given",
    "r_hat",
    "require",
    "sample",
    "sample_parallel",
    "score",
    "summary",
    "to_arviz",
    "unconstrained",
    "value_and_gradient",
    "without",
]
