"""Fine-tuning of deep belief networks: what is recognised teaches the model, what is imagined the recognition."""

import itertools

import torch
from torch import Tensor

from energeia.core.energy import Energy
from energeia.core.errors import InputError
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.energies.dbn import DBN, surprise
from energeia.objectives.contrastive import Contrastive


class WakeSleep(Objective):
    """The up-down algorithm: three losses, each of parameters of its own.

    Awake, layers are drawn upwards from data by recognition: -log p(h_l|h_(l+1)) of each teaches the weights
    downwards, and the contrastive loss at h_(L-1) the top. Asleep, layers are drawn downwards from the
    negatives of the top: -log q(h_(l+1)|h_l) of each teaches recognition.

    Args:
        contrastive: of the top: `ContrastiveDivergence(BlockGibbs(), k)` is the method of the
            reference, `PersistentCD(BlockGibbs(), k)` follows the likelihood better.

    With negatives from the top's model, the gradient of the model's weights is that of the bound
    E_q[E(v, h)] + log Z (on average over the draws), and recognition follows KL(p(h|v) || q(h|v)) over what the model
    imagines: not KL(q || p), which the bound is off by. So the bound need not rise with every step. Biased as
    the negatives are. Cost: up and down once, and the contrastive objective at the top.

    Reference: Hinton, Dayan, Frey & Neal (1995), The wake-sleep algorithm for unsupervised neural networks,
    https://doi.org/10.1126/science.7761831; Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief
    nets. https://doi.org/10.1162/neco.2006.18.7.1527

    >>> import torch, energeia as en
    >>> dbn, learn = en.DBN(4, (3, 2)), en.WakeSleep(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5))
    >>> loss = learn(dbn, en.Batch(torch.ones(2, 4)), torch.Generator())
    >>> loss.value.backward()
    """

    def __init__(self, contrastive: Contrastive) -> None:
        super().__init__()
        self.contrastive = contrastive

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The sum of the three losses."""
        if not isinstance(energy, DBN):
            raise InputError(f"WakeSleep: is for en.DBN, got {type(energy).__name__}")
        awake = energy.recognise(batch.x, generator)
        rows = Batch(awake[-1])
        negatives, info = self.contrastive.negatives(energy.top, rows, generator)
        top = self.contrastive.compare(energy.top, rows.x, negatives, info)
        asleep = energy.imagine(negatives, generator)
        wake, sleep = torch.zeros_like(top.value), torch.zeros_like(top.value)
        for layer, (below, above) in enumerate(itertools.pairwise(awake)):
            wake = wake + surprise(energy.downward(layer, above), below).mean()
        for layer, (below, above) in enumerate(itertools.pairwise(asleep)):
            sleep = sleep + surprise(energy.upward(layer + 1, below), above).mean()
        value = top.value + wake + sleep
        own: dict[str, Tensor] = {"loss": value.detach(), "wake": wake.detach(), "sleep": sleep.detach()}
        return Loss(value, {**top.metrics, **own})
