"""Every exported energy, sampler and objective meets its contract."""

import inspect

import pytest
import torch
from torch import nn

import energeia as en
from energeia import energies, objectives, samplers, search, testing
from energeia.core.energy import Energy
from energeia.core.objective import Objective
from energeia.core.sampler import Sampler


def _tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def _classifier():
    torch.manual_seed(0)
    return en.Classifier(en.MLP(2, 3, widths=(8,)).double(), en.Real(2))


def _ising(lowest=0.1):
    """Spins with fields, on a triangle with a tail."""
    edges = [(0, 1), (1, 2), (2, 0), (3, 0)]
    return energies.Ising(4, edges, couplings=_tensor(0.5, lowest, 0.2, 0.7), fields=_tensor(0.3, -0.6, 0.0, 1.0))


def _flow():
    """A smooth one, so that quadrature is exact."""
    from zuko.flows import MAF

    torch.manual_seed(0)
    flow = MAF(2, transforms=2, hidden_features=(4,), activation=nn.Tanh).double()
    return en.Flow(flow, en.Real(2), mean=_tensor(1.0, -0.5), scale=_tensor(0.7, 1.5))


def _autoregressive():
    energy = en.Autoregressive(en.Categorical(2, num_categories=3)).double()
    with torch.no_grad():
        for parameter in energy.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return energy


def _student():
    return torch.distributions.Independent(torch.distributions.StudentT(_tensor(30.0, 40.0), _tensor(1.0, -1.0)), 1)


def _conditional(frame):
    machine = en.ConditionalRBM(frame, 3, order=2, weight_scale=0.7).double()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return machine


def _noise_conditional_score():
    return en.NoiseConditionalScore(en.LevelMLP(2, 2).double(), en.Real(2), levels=(2.0, 1.0, 0.5))


def _pictures(side):
    torch.manual_seed(0)
    shape = (1, side, side)
    return en.Neural(en.MLP(shape, widths=(4,)).double(), en.Real(shape))


class _Restricted(en.Energy):
    """A restricted Boltzmann machine: E(x, h) = -x'Wh - b'x - c'h."""

    def __init__(self):
        super().__init__(en.Binary(3))
        self.hidden = en.Binary(2)
        self.weight = nn.Parameter(_tensor([1.5, -0.5], [-1.0, 2.0], [0.3, 0.9]))
        self.bias, self.hidden_bias = nn.Parameter(_tensor(0.2, -0.7, 0.4)), nn.Parameter(_tensor(-0.3, 0.6))

    def forward(self, x):
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    @property
    def visible(self):
        return self.space

    def visible_energy(self, x):
        return -(x @ self.bias)

    def hidden_parameters(self, x):
        return x @ self.weight + self.hidden_bias

    def visible_parameters(self, h):
        return h @ self.weight.T + self.bias


class _Blurred(en.Gaussian):
    """Conditional on noise: data with noise of a level. Alone, that of the lowest."""

    def __init__(self, shape=2, **moments):
        super().__init__(shape, **moments)
        self.log_factor = nn.Parameter(_tensor(0.0)[0])

    def forward(self, x, level=None):
        spread = self.scale.square() + (0.0 if level is None else level.view(-1, 1).square())
        return ((x - self.mean).square() / spread).flatten(1).sum(1) * self.log_factor.exp() / 2


ENERGIES = {
    "Autoregressive": _autoregressive,
    "Banana": lambda: energies.Banana().double(),
    "BoltzmannMachine": lambda: energies.BoltzmannMachine(
        en.Spin(3), weight=_tensor([0.0, 0.3, -0.5], [0.3, 0.0, 0.2], [-0.5, 0.2, 0.0]), bias=_tensor(0.1, -0.7, 0.4)
    ),
    "ClassificationRBM": lambda: en.ClassificationRBM(4, 3, 3, weight_scale=0.7).double(),
    "Classifier": _classifier,
    "ConditionalRBM": lambda: _conditional(en.Spin(2)),
    "CorrelatedGaussian": lambda: energies.CorrelatedGaussian.equicorrelated(2, rho=0.8, dtype=torch.float64),
    "DBM": lambda: en.DBM(4, (3, 2), mean=_tensor(0.2, 0.5, 0.7, 0.4), weight_scale=0.7).double(),
    "DBN": lambda: en.DBN(4, (3, 2), weight_scale=0.7).double(),
    "DeepJoint": lambda: energies.DeepJoint((4, 3, 2, 2), weight_scale=0.7).double(),
    "Distribution": lambda: en.Distribution(_student(), en.Real(2)),
    "DoubleWell": lambda: energies.DoubleWell(2, tilt=0.5).double(),
    "EightSchools": lambda: energies.EightSchools().double(),
    "Enumerated": lambda: energies.Enumerated(_ising()),
    "Flow": _flow,
    "Funnel": lambda: energies.Funnel(3).double(),
    "GatedRBM": lambda: en.GatedRBM(en.Spin(3), 4, 2, weight_scale=0.7).double(),
    "Gaussian": lambda: en.Gaussian(2, mean=_tensor(1.0, -2.0), scale=_tensor(0.5, 2.0)),
    "GaussianMixture": lambda: energies.four_gaussians(dtype=torch.float64),
    "Independent": lambda: en.Independent(en.Categorical(2, num_categories=3), torch.randn(2, 3, dtype=torch.float64)),
    "Ising": lambda: _ising(-1.0),
    "CurieWeiss": lambda: energies.CurieWeiss(5, coupling=1.3, field=-0.2).double(),
    "IsingLattice": lambda: energies.IsingLattice((4, 4), coupling=torch.tensor(0.4), field=torch.tensor(0.1)).double(),
    "KernelDensity": lambda: en.KernelDensity(_tensor([1.0, 0.5], [-1.0, 2.0], [0.0, 1.0]), _tensor(0.8, 1.1)),
    "LogisticRegression": lambda: energies.LogisticRegression(_tensor([1.0, 0.5], [-1.0, 2.0]), torch.tensor([1, 0])),
    "MeanFieldBound": lambda: en.DBM(4, (3, 2), weight_scale=0.7).double().bound,
    "NoiseConditional": lambda: en.NoiseConditional(en.LevelMLP(2).double(), en.Real(2), levels=(2.0, 1.0, 0.5)),
    "NoiseConditionalScore": lambda: _noise_conditional_score(),
    "Neural": lambda: en.Neural(en.MLP(2, widths=(8,)).double(), en.Real(2)),
    "PairwiseMRF": lambda: energies.PairwiseMRF(
        3,
        [(0, 1), (2, 1)],
        num_categories=3,
        site_tables=_tensor(*[[0.2, -0.4, 1.0]] * 3),
        edge_tables=torch.arange(18.0).double().sin().view(2, 3, 3),
    ),
    "NextFrame": lambda: en.given(_conditional(en.Spin(2)), context=_tensor([[1.0, -1.0], [1.0, 1.0]])),
    "Phi4": lambda: energies.Phi4(3, mass_squared=-1.0, coupling=0.5).double(),
    "Planar": lambda: energies.Planar("pinwheel", dtype=torch.float64),
    "Potts": lambda: energies.Potts(3, [(0, 1), (2, 1)], num_categories=3, couplings=_tensor(0.8, -0.3)),
    "RBM": lambda: en.RBM(en.Spin(4), en.Categorical(2, num_categories=3), weight_scale=0.7).double(),
    "ScoreModel": lambda: en.ScoreModel(nn.Linear(2, 2).double(), en.Real(2)),
    "Ring": lambda: energies.Ring().double(),
    "Rosenbrock": lambda: energies.Rosenbrock(2, 3).double(),
    "ReplicatedSoftmax": lambda: en.ReplicatedSoftmax(en.Counts(2, total=3), 2, weight_scale=0.7).double(),
    "SpikeAndSlabRBM": lambda: en.SpikeAndSlabRBM(2, 3, 2, weight_scale=0.3).double(),
    "SubspaceRBM": lambda: en.SubspaceRBM(en.Spin(4), 2, 3, weight_scale=0.7).double(),
    "Uniform": lambda: en.Uniform(en.Box(2, low=-1.0, high=3.0)).double(),
}
COMPOSITIONS = {
    "sum": lambda: en.Gaussian(2, mean=_tensor(1.0, -2.0)) + _classifier(),
    "scaled": lambda: 0.5 * en.Independent(en.Spin(3), _tensor(0.3, -1.0, 0.2)),
    "mixture": lambda: en.any_of(en.Gaussian(2, mean=_tensor(1.0, 1.0)), en.Gaussian(2, scale=_tensor(0.5, 0.5))),
    "without": lambda: en.without(en.Gaussian(2, scale=_tensor(0.5, 0.5)), en.Gaussian(2, mean=_tensor(1.0, 0.0))),
    "label": lambda: en.given(_classifier(), label=1),
    "observed": lambda: en.given(_classifier(), observed=(torch.tensor([True, False]), _tensor(0.5, 0.0))),
    "binary": lambda: en.Independent(en.Binary(4), _tensor(0.3, -1.0, 0.2, 2.0)),
    "module": lambda: en.from_module(nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double(), en.Box(3)),
}
SAMPLERS = {
    "AnnealedLangevin": (en.AnnealedLangevin(levels=(4.0, 2.0, 1.0), num_steps=5, step_size=0.05), False),
    "BlockGibbs": (samplers.BlockGibbs(), True),
    "DiscreteLangevin": (samplers.DiscreteLangevin(step_size=0.5), True),
    "FlowLangevin": (en.FlowLangevin(0.2, num_steps=5), False),
    "Gibbs": (samplers.Gibbs(), True),
    "GibbsWithGradients": (samplers.GibbsWithGradients(), True),
    "HMC": (en.HMC(step_size=0.3, num_leapfrog=4), True),
    "Langevin": (en.Langevin(step_size=0.05), False),
    "MALA": (en.MALA(step_size=0.3), True),
    "Metropolis": (samplers.Metropolis(num_flips=2), True),
    # All its replicas start at x, so the cold ones are disturbed at first; tests/samplers/test_tempering.py.
    "ParallelTempering": (en.ParallelTempering(en.MALA(step_size=0.3), (1.0, 2.0, 4.0)), False),
    "RandomWalk": (en.RandomWalk(step_size=0.6), True),
    # From noise to data, so nothing stays as it was; tests/samplers/test_diffusion.py.
    "ReverseDiffusion": (en.ReverseDiffusion((2.0, 1.0, 0.5)), False),
    "RecoveryLangevin": (en.RecoveryLangevin(levels=(2.0, 1.0, 0.5), num_steps=10), False),
    "SwendsenWang": (samplers.SwendsenWang(), True),
    "TemperedTransitions": (en.TemperedTransitions(en.MALA(step_size=0.3), (1.0, 1.3, 1.7)), True),
    "UnderdampedLangevin": (en.UnderdampedLangevin(step_size=0.2), False),
}
OBJECTIVES = {
    "ConditionalLikelihood": en.ConditionalLikelihood,
    "ConditionalRanking": lambda: en.ConditionalRanking([0.3, 1.0], num_noise=5),
    "DirectLoss": lambda: en.DirectLoss(epsilon=2.0),
    "EnergyLoss": en.EnergyLoss,
    "Margin": en.Margin,
    "MinimumEmpiricalError": en.MinimumEmpiricalError,
    "Perceptron": en.Perceptron,
    "StructuredHinge": en.StructuredHinge,
    "Unrolled": lambda: en.Unrolled(num_steps=3, step_size=0.1),
    "AdversarialLikelihood": lambda: en.AdversarialLikelihood(_flow()),
    "AdversarialNCE": lambda: en.AdversarialNCE(_flow(), en.Gaussian(2).double(), ratio=2),
    "ConcreteScoreMatching": en.ConcreteScoreMatching,
    "ConditionalNCE": en.ConditionalNCE,
    "Conditioned": lambda: en.Conditioned(en.ContrastiveDivergence(en.BlockGibbs(), 1)),
    "ContrastiveDivergence": lambda: en.ContrastiveDivergence(en.Langevin(step_size=0.1), 3),
    "CrossEntropy": en.CrossEntropy,
    "DenoisingScoreMatching": lambda: en.DenoisingScoreMatching(noise_scale=0.3),
    "DiffusionRecovery": lambda: en.DiffusionRecovery(en.RecoveryLangevin(levels=(2.0, 1.0, 0.5), num_steps=3)),
    "EnergyDiscrepancy": lambda: en.EnergyDiscrepancy(0.5, num_samples=3),
    "EnergyMatching": lambda: en.EnergyMatching(en.PersistentCD(en.Langevin(step_size=0.1), 2, num_chains=5)),
    "ExactLikelihood": lambda: en.ExactLikelihood(num_nodes=20),
    "FiniteDifferenceScoreMatching": en.FiniteDifferenceScoreMatching,
    "FlowContrast": lambda: en.FlowContrast(_flow(), turns=(2, 1)),
    "ImprovedCD": lambda: en.ImprovedCD(
        en.PersistentCD(en.Langevin(step_size=0.1), 2, num_chains=6), en.Langevin(step_size=0.1)
    ),
    "Joint": lambda: en.Joint(en.PersistentCD(en.MALA(step_size=0.1), 2, num_chains=5, capacity=9, fresh=0.2)),
    "KernelStein": en.KernelStein,
    "LearnedStein": lambda: en.LearnedStein(en.MLP(2, 2, widths=(8,)).double()),
    "MeanFieldCD": en.MeanFieldCD,
    "MeanFieldPosterior": lambda: en.MeanFieldPosterior(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5)),
    "MinimumProbabilityFlow": en.MinimumProbabilityFlow,
    "MultiScaleDenoising": en.MultiScaleDenoising,
    "MultigridCD": lambda: en.MultigridCD([_pictures(2)], en.Langevin(step_size=0.1), 2),
    "NoiseContrast": lambda: en.NoiseContrast(en.Gaussian(2).double(), ratio=3),
    "Penalised": lambda: en.Penalised(en.PseudoLikelihood(), ["couplings"], l1=0.2, l2=0.1),
    "PersistentCD": lambda: en.PersistentCD(en.Langevin(step_size=0.1), 3, num_chains=10),
    "PerturbAndMAP": lambda: en.PerturbAndMAP(num_perturbations=20),
    "PseudoLikelihood": lambda: en.PseudoLikelihood(num_sites=2),
    "RankingNCE": lambda: en.RankingNCE(en.Gaussian(2).double(), ratio=3),
    "RatioMatching": en.RatioMatching,
    "ScoreMatching": en.ScoreMatching,
    "SlicedScoreMatching": en.SlicedScoreMatching,
    "Sparse": lambda: en.Sparse(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5), target=0.1, strength=0.5),
    "UnbiasedCD": lambda: en.UnbiasedCD(en.Metropolis()),
    "WakeSleep": lambda: en.WakeSleep(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5)),
}

# Of the objectives, those of discrete models.
DISCRETE = {
    "ConcreteScoreMatching",
    "MeanFieldCD",
    "MinimumProbabilityFlow",
    "Penalised",
    "PerturbAndMAP",
    "PseudoLikelihood",
    "RatioMatching",
    "UnbiasedCD",
}

# Those of real answers.
REAL_ANSWERS = {"ConditionalRanking", "Unrolled"}

# Those of energies that are conditional on noise.
NOISY = {"DiffusionRecovery", "MultiScaleDenoising"}

# And those of one model alone.
DEEP = {
    "Conditioned": "ConditionalRBM",
    "MeanFieldPosterior": "DBM",
    "Sparse": "RBM",
    "WakeSleep": "DBN",
}


def _chain(per_site=False, padding=-1.0):
    torch.manual_seed(2)
    network = torch.nn.Linear(2, 3, dtype=torch.float64)
    energy = en.LinearChain(network, en.Real((4, 2)), 3, padding=padding, per_site=per_site)
    _randomised(energy)
    return energy, _padded((4, 2))


def _tree():
    torch.manual_seed(3)
    network = torch.nn.Sequential(torch.nn.Linear(2, 10, dtype=torch.float64), torch.nn.Unflatten(1, (5, 2)))
    edges = [(0, 1), (3, 1), (1, 4)]
    energy = en.PairwiseCRF(
        network, en.Real(2), 2, sites=5, edges=edges, kinds=torch.tensor([0, 1, 0]), joint_network=_Joint(3, 2)
    )
    return _randomised(energy), torch.randn(3, 2, dtype=torch.float64)


def _grid():
    torch.manual_seed(4)
    network = torch.nn.Sequential(torch.nn.Linear(2, 18, dtype=torch.float64), torch.nn.Unflatten(1, (2, 3, 3)))
    edges, kinds = en.lattice(2, 3)
    energy = en.PairwiseCRF(
        network,
        en.Real(2),
        3,
        sites=(2, 3),
        edges=edges,
        kinds=kinds,
        present=_holes,
    )
    return _randomised(energy), torch.randn(3, 2, dtype=torch.float64)


def _holes(x):
    there = torch.ones(len(x), 2, 3, dtype=torch.bool)
    there[:, 1, 1:] = x[:, :1] > 0
    return there


def _cuttable():
    torch.manual_seed(6)
    network = torch.nn.Sequential(torch.nn.Linear(2, 12, dtype=torch.float64), torch.nn.Unflatten(1, (2, 3, 2)))
    edges, kinds = en.lattice(2, 3)
    energy = en.PairwiseCRF(network, en.Real(2), 2, sites=(2, 3), edges=edges, kinds=kinds, joint="potts")
    energy = _randomised(energy)
    energy.couplings.data.abs_()
    return energy, torch.randn(3, 2, dtype=torch.float64)


def _segments():
    torch.manual_seed(5)
    network = torch.nn.Linear(2, 2, dtype=torch.float64)
    energy = en.SemiMarkovCRF(network, en.Real((5, 2)), 2, max_length=3, padding=-1.0)
    return _randomised(energy), _padded((5, 2))


def _jointly():
    chain, x = _chain(padding=None)
    few = en.from_pair(lambda x, y: y[:, :, 1].sum(1).square() * x[:, 0, 0].abs(), chain.space, chain.answers)
    return en.Jointly(chain, few), x


def _padded(event):
    x = torch.randn(3, *event, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[1, 2:], x[2, 1:] = -1.0, -1.0
    return x


def _randomised(energy):
    for parameter in energy.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return energy


class _Line(torch.nn.Module):
    """y near a line in x."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1, dtype=torch.float64)

    def forward(self, x, y):
        return (y - self.linear(x)).square().sum(1)


class _Joint(torch.nn.Module):
    """Tables that depend on x."""

    def __init__(self, num_edges, num_labels):
        super().__init__()
        self.linear = torch.nn.Linear(2, num_edges * num_labels**2, dtype=torch.float64)
        self.shape = (num_edges, num_labels, num_labels)

    def forward(self, x):
        return self.linear(x).view(-1, *self.shape)


# Energies of inputs and answers, with inputs to try them on.
ANSWERING = {"Jointly": _jointly, "LinearChain": _chain, "PairwiseCRF": _tree, "SemiMarkovCRF": _segments}
MORE_ANSWERING = {"one site at a time": lambda: _chain(per_site=True), "a grid with holes": _grid}


def _exported(module, base):
    members = {name: getattr(module, name) for name in module.__all__}
    return {n for n, m in members.items() if inspect.isclass(m) and issubclass(m, base) and not inspect.isabstract(m)}


def test_every_export_is_under_contract():
    assert _exported(energies, Energy) == set(ENERGIES) | set(ANSWERING)
    assert _exported(samplers, Sampler) == set(SAMPLERS)
    assert _exported(objectives, Objective) == set(OBJECTIVES)


@pytest.mark.parametrize("name", [*ENERGIES, *COMPOSITIONS])
def test_energy(name):
    torch.manual_seed(3)
    testing.check_energy({**ENERGIES, **COMPOSITIONS}[name]())


@pytest.mark.parametrize("name", [*ANSWERING, *MORE_ANSWERING])
def test_answers(name):
    energy, x = {**ANSWERING, **MORE_ANSWERING}[name]()
    testing.check_answers(energy, x)


SEARCHES = {
    "AlphaExpansion": en.AlphaExpansion,
    "MeanFieldModes": en.MeanFieldModes,
    "Annealing": lambda: en.Annealing(en.Gibbs(), num_steps=50, num_temperatures=10, num_starts=4),
    "Elimination": en.Elimination,
    "Enumeration": en.Enumeration,
    "Exact": en.Exact,
    "IteratedModes": lambda: en.IteratedModes(num_starts=4),
    "MaxProduct": en.MaxProduct,
    "MinimumCut": en.MinimumCut,
}


@pytest.mark.parametrize("name", SEARCHES)
def test_search(name):
    energy, x = _tree() if name == "Exact" else _cuttable()
    testing.check_search(SEARCHES[name](), en.given(energy, context=x))


def test_every_search_is_under_contract():
    # Descent is for real answers, of which no list can be made.
    assert _exported(search, en.Search) == {*SEARCHES, "Descent"}


def _target(name):
    """An asymmetric target with exact draws, of the kind that the sampler is for."""
    if name in ("RecoveryLangevin", "ReverseDiffusion"):
        return _Blurred(mean=_tensor(1.0, -2.0), scale=_tensor(0.5, 2.0))
    if name == "BlockGibbs":
        return energies.Enumerated(_Restricted())
    if name in ("DiscreteLangevin", "Gibbs", "GibbsWithGradients", "Metropolis", "SwendsenWang"):
        return energies.Enumerated(_ising())
    return en.Gaussian(2, mean=torch.tensor([1.0, -2.0]), scale=torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler(name):
    sampler, exact = SAMPLERS[name]
    testing.check_sampler(sampler, _target(name), exact=exact)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective(name):
    generator = torch.Generator().manual_seed(0)
    if name in DISCRETE:
        spins = en.Spin(4).start(12, generator, dtype=torch.float64)
        testing.check_objective(OBJECTIVES[name](), _ising(), en.Batch(spins))
        return
    if name in DEEP:
        energy = ENERGIES[DEEP[name]]()
        rows = energy.space.start(12, generator, dtype=torch.float64)
        testing.check_objective(OBJECTIVES[name](), energy, en.Batch(rows))
        return
    if name in REAL_ANSWERS:
        energy = en.from_pair(_Line(), en.Real(1), en.Real(1))
        x = torch.randn(12, 1, generator=generator, dtype=torch.float64)
        testing.check_objective(OBJECTIVES[name](), energy, en.Batch(x, 2 * x))
        return
    if name == "MultigridCD":
        x = torch.randn(12, 1, 4, 4, generator=generator, dtype=torch.float64)
        testing.check_objective(OBJECTIVES[name](), _pictures(4), en.Batch(x))
        return
    x = torch.randn(12, 2, generator=generator, dtype=torch.float64)
    energy = ENERGIES["NoiseConditional"]() if name in NOISY else _classifier()
    testing.check_objective(OBJECTIVES[name](), energy, en.Batch(x, torch.arange(12) % 3))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_are_hashable_values(name):
    sampler, _ = SAMPLERS[name]
    assert hash(sampler) == hash(SAMPLERS[name][0])
    with pytest.raises(AttributeError):
        sampler.step_size = 1.0


class _WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.square().sum(1)

    @staticmethod
    def backward(context, gradient):
        return gradient.unsqueeze(1).expand(-1, 2)


class _Biased(en.Sampler):
    """Moves everything a little to the right."""

    def init(self, energy, x):
        return en.MALA(step_size=0.3).init(energy, x)

    def draw(self, state, generator):
        return en.MALA(step_size=0.3).draw(state, generator)

    def step(self, energy, state, noise):
        state, info = en.MALA(step_size=0.3).step(energy, state, noise)
        return state._replace(x=state.x + 0.02), info


class _WrongNatural(en.Independent):
    def natural_parameters(self, blocks, block):
        return super().natural_parameters(blocks, block) * 2


def test_the_checks_can_fail():
    for space in (en.Binary(3), en.Spin(3), en.Categorical(2, num_categories=3)):
        with pytest.raises(AssertionError, match="natural parameters"):
            testing.check_energy(_WrongNatural(space, torch.ones(space.event_shape).cumsum(-1).double()))
    with pytest.raises(AssertionError, match="not its slope"):
        testing.check_energy(en.from_module(_WrongSlope.apply, en.Real(2)))
    with pytest.raises(AssertionError, match="standard errors"):
        testing.check_sampler(_Biased(), en.Gaussian(2))
    with pytest.raises(AssertionError, match="no gradient"):
        testing.check_objective(
            en.ExactLikelihood(num_nodes=20),
            en.Gaussian(1).double() + 0.0 * en.Neural(en.MLP(1).double(), en.Real(1)),
            en.Batch(torch.zeros(3, 1, dtype=torch.float64)),
        )
