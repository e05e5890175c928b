"""p(y | x) = exp(-E(x, y)) / sum_y' exp(-E(x, y')), its likelihood and its error."""

import torch
from torch import Tensor

from energeia.core.answers import Solvable, Tiltable
from energeia.core.energy import Energy, Explicit
from energeia.core.errors import CapabilityError, check_count, check_positive
from energeia.core.nodes import integration_nodes
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.core.space import Box, Enumerable, Real
from energeia.objectives.margin import Posed, posed
from energeia.search.exact import MOST_STATES, all_energies


class ConditionalLikelihood(Objective):
    """mean -log p(y | x) = mean E(x, y) + log sum_y' exp(-E(x, y')): conditional likelihood, mutual information.

    Args:
        beta: inverse temperature: p ~ exp(-beta E), and the value is divided by beta, > 0.
        num_nodes: quadrature nodes in each dimension of real answers.

    log Z(x) is exact: by the energy's structure (chains, trees, segments, narrow graphs with cycles), by listing at
    most 2^16 answers (labels, bits, classes), by quadrature of one to three real dimensions (Gauss-Legendre, as
    `ExactLikelihood`; the nodes must
    resolve the energy: heavy tails and narrow peaks need more). For others it is an error, which names what estimates
    it: `Conditioned(ContrastiveDivergence(...))` or `ConditionalRanking`. Value in nats (densities for real answers).
    All wrong answers are pushed up, each by its probability. Cost: one evaluation, and log Z.

    Reference: Lafferty, McCallum & Pereira (2001), Conditional random fields; LeCun et al. (2006), section 2.2.4.
    """

    def __init__(self, *, beta: float = 1.0, num_nodes: int = 200) -> None:
        super().__init__()
        check_positive("ConditionalLikelihood", beta=beta)
        check_count("ConditionalLikelihood", num_nodes=num_nodes)
        self.beta, self.num_nodes = beta, num_nodes

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The negative log-likelihood per row; nothing is random."""
        case = posed(energy, batch, "ConditionalLikelihood")
        log_z = log_partition(case, self.beta, self.num_nodes, "ConditionalLikelihood")
        value = (case.right + log_z / self.beta).mean()
        metrics = {"loss": value, "energy_data": case.right.mean(), "log_z": log_z.mean()}
        return Loss(value, {name: metric.detach() for name, metric in metrics.items()})


class MinimumEmpiricalError(Objective):
    """mean 1 - p(y | x): the chance that an answer drawn from the model is wrong.

    Args:
        beta, num_nodes: as of `ConditionalLikelihood`; as beta grows it becomes the share of wrong best answers.

    Bounded, so that rows that cannot be right stop pulling: robust, and not convex, with vanishing gradients far from
    the data (begin with `ConditionalLikelihood`). Where log Z can be had, as there.

    Reference: Ljolje, Ephraim & Rabiner (1990), Estimation of hidden Markov model parameters by minimizing empirical
    error rate, https://doi.org/10.1109/ICASSP.1990.115855; LeCun et al. (2006), table 1.
    """

    def __init__(self, *, beta: float = 1.0, num_nodes: int = 200) -> None:
        super().__init__()
        check_positive("MinimumEmpiricalError", beta=beta)
        check_count("MinimumEmpiricalError", num_nodes=num_nodes)
        self.beta, self.num_nodes = beta, num_nodes

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The mean over rows; nothing is random."""
        case = posed(energy, batch, "MinimumEmpiricalError")
        log_z = log_partition(case, self.beta, self.num_nodes, "MinimumEmpiricalError")
        value = (1 - (-self.beta * case.right - log_z).exp()).mean()
        metrics = {"loss": value, "energy_data": case.right.mean()}
        return Loss(value, {name: metric.detach() for name, metric in metrics.items()})


def log_partition(case: Posed, beta: float, num_nodes: int, who: str) -> Tensor:
    """log sum_y exp(-beta E(x, y)) of each row `[B]`, with its graph.

    Raises:
        CapabilityError: it cannot be had.
    """
    field, right = case.field, case.right
    tiltable = field.capability(Tiltable)
    if beta != 1.0 and tiltable is not None:
        field, right, beta = tiltable.scaled(beta), beta * right, 1.0
    solvable = field.capability(Solvable)
    if solvable is not None and beta == 1.0:
        return solvable.log_partition()
    explicit = field.capability(Explicit)
    if explicit is not None and beta == 1.0:
        return -explicit.log_prob(case.y) - right
    space = field.space
    listed = isinstance(space, Enumerable) and space.num_states <= MOST_STATES
    if not listed and not (isinstance(space, Real | Box) and num_nodes**space.num_dims <= MOST_STATES):
        chains = "en.ContrastiveDivergence(en.Gibbs(), num_steps)"
        labels = f"en.Conditioned(en.PseudoLikelihood()), en.Conditioned({chains})"
        estimate = "en.ConditionalRanking(scales)" if isinstance(space, Real | Box) else labels
        raise CapabilityError(
            f"{who}: log Z(x) over answers on {space} cannot be had exactly for {type(field).__name__}; take an "
            f"objective without it: {estimate}, or a loss of the best answers: en.StructuredHinge, en.Margin, "
            "en.Perceptron"
        )
    states, log_weight = integration_nodes(space, num_nodes, dtype=case.y.dtype, device=case.y.device)
    return (log_weight - beta * all_energies(field, states)).logsumexp(1)
