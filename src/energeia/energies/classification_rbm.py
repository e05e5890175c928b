"""A restricted Boltzmann machine of x and its class: p(y|x) exact, p(x, y) learned beside."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_finite, check_positive
from energeia.core.space import Binary, Categorical, Space
from energeia.core.units import Units
from energeia.energies.rbm import RBM


@dataclass(frozen=True, eq=False)
class LabelledBits:
    """A class y of K beside J bits h that lean on it: held as (y one-hot, h), K + J numbers.

    With natural parameters (d, a) `[B, K + J]`, p(y, h) is proportional to exp(d_y + a'h + h'U_y), and

        log p(y) = d_y + sum_j log(1 + exp(a_j + U_yj)) - A,    p(h_j = 1|y) = sigmoid(a_j + U_yj).

    Args:
        label_weight: U `[K, J]`, the part of the measure that ties the bits to the class.

    Cost: B K J exponentials.
    """

    label_weight: Tensor

    def class_terms(self, natural: Tensor) -> Tensor:
        """d_y + sum_j log(1 + exp(a_j + U_yj)): log p(y) but for the constant, `[B, K]`."""
        num_classes = len(self.label_weight)
        inputs = natural[:, num_classes:].unsqueeze(1) + self.label_weight
        return natural[:, :num_classes] + nn.functional.softplus(inputs).sum(2)

    def from_natural(self, natural: Tensor, uniform: Tensor) -> Tensor:
        """y from its exact probabilities, h from those given y; `[B, K + J]`, uniforms of that shape too."""
        num_classes, num_bits = self.label_weight.shape
        classes = Categorical(1, num_categories=num_classes)
        terms = self.class_terms(natural).unsqueeze(1)
        y = classes.from_natural(terms, uniform[:, :num_classes].unsqueeze(1)).squeeze(1)
        inputs = torch.addmm(natural[:, num_classes:], y, self.label_weight)
        return torch.cat([y, Binary(num_bits).from_natural(inputs, uniform[:, num_classes:])], 1)

    def log_partition(self, natural: Tensor) -> Tensor:
        """A = log sum_y exp(log p(y) + A), `[B]`."""
        return self.class_terms(natural).logsumexp(1)

    def mean(self, natural: Tensor) -> Tensor:
        """(p(y), E[h]), `[B, K + J]`."""
        num_classes = len(self.label_weight)
        shares = self.class_terms(natural).softmax(1)
        opened = (natural[:, num_classes:].unsqueeze(1) + self.label_weight).sigmoid()
        return torch.cat([shares, (shares.unsqueeze(2) * opened).sum(1)], 1)


class ClassificationRBM(Energy):
    """E(x, y, h) = -b'x - d_y - h'(c + W'x + U_y), with hidden bits h and a class y.

        E(x, y) = -b'x - d_y - sum_j log(1 + exp(c_j + (W'x)_j + U_yj)),    p(y|x) = softmax_y(-E(x, y)),
        E(x) = -log sum_y exp(-E(x, y)).

    Args:
        visible: space of x, or a number of bits; any that `RBM` takes. For `Real` and `Positive`,
            b'x is what it is there.
        num_hidden: number of hidden bits, J.
        num_classes: number of classes, K >= 2.
        mean: mean of the data `[*event]`, for the first b.
        weight_scale: standard deviation of the first W and U, > 0.
        hidden_bias: the first c.

    Capabilities: `Classes` (p(y|x) and its gradient are exact, at a cost of K J), and `Bipartite`, with y
    among the hidden units: block Gibbs draws y from p(y|x), h from p(h|x, y) and x from p(x|h), and `ais`,
    tempering and `log_likelihood` follow. So three ways to train it, each an objective that is there:

    - `CrossEntropy()`: discriminative, -log p(y|x).
    - `Joint(PersistentCD(BlockGibbs(), 1))`: generative, -log p(x, y) = -log p(y|x) - log p(x).
    - `Joint(..., weight=w)`, w < 1: hybrid. The hybrid of Larochelle & Bengio, -log p(y|x) - alpha log p(x, y), is
      (1 + alpha) times that with w = alpha / (1 + alpha).

    The label's part of the generative gradient is therefore exact, where CD on (x, y) would draw it.
    `ContrastiveDivergence` or `PersistentCD` alone learn p(x) from rows without labels.

    Does not centre its gradients, and E(x) means nothing after `CrossEntropy` alone.

    Reference: Larochelle & Bengio (2008), Classification using discriminative restricted Boltzmann
    machines, https://doi.org/10.1145/1390156.1390224

    >>> import torch, energeia as en
    >>> machine = en.ClassificationRBM(6, 4, 3)
    >>> machine.class_energies(torch.ones(2, 6)).shape
    torch.Size([2, 3])
    """

    num_classes: int

    def __init__(
        self,
        visible: int | Space,
        num_hidden: int,
        num_classes: int,
        *,
        mean: Tensor | None = None,
        weight_scale: float = 0.01,
        hidden_bias: float = 0.0,
    ) -> None:
        check_count("ClassificationRBM", num_hidden=num_hidden, num_classes=num_classes)
        check_positive("ClassificationRBM", weight_scale=weight_scale)
        check_finite("ClassificationRBM", hidden_bias=hidden_bias)
        if num_classes < 2:
            raise InputError("ClassificationRBM: num_classes must be at least 2; for one class use en.RBM")
        machine = RBM(visible, num_hidden, mean=mean, centred=False, weight_scale=weight_scale, hidden_bias=hidden_bias)
        super().__init__(machine.space)
        self.machine, self.num_classes = machine, num_classes
        self.label_weight = nn.Parameter(weight_scale * torch.randn(num_classes, num_hidden))
        self.label_bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """E(x) `[B]`, y and h summed out."""
        return self.visible_energy(x) - self.hidden.log_partition(self.hidden_parameters(x))

    def class_energies(self, x: Tensor) -> Tensor:
        """E(x, y) for every y, `[B, K]`."""
        return self.visible_energy(x).unsqueeze(1) - self.hidden.class_terms(self.hidden_parameters(x))

    @property
    def visible(self) -> Units:
        """Units of x."""
        return self.machine.visible

    @property
    def hidden(self) -> LabelledBits:
        """Units of (y, h)."""
        return LabelledBits(self.label_weight)

    def visible_energy(self, x: Tensor) -> Tensor:
        """-b'x (and what `RBM` has beside, for real x), `[B]`."""
        return self.machine.visible_energy(x)

    def hidden_parameters(self, x: Tensor) -> Tensor:
        """(d, c + W'x), `[B, K + J]`."""
        return torch.cat([self.label_bias.expand(len(x), -1), self.machine.hidden_parameters(x)], 1)

    def visible_parameters(self, h: Tensor) -> Tensor:
        """b + W h from (y, h) `[B, K + J]`: x leans on its class through h alone. `[B, *event]`."""
        return self.machine.visible_parameters(h[:, self.num_classes :])

    def transform(self, x: Tensor) -> Tensor:
        """(p(y|x), E[h|x]) `[B, K + J]`: features for another model."""
        self.space.check(x)
        with torch.no_grad():
            return self.hidden.mean(self.hidden_parameters(x))
