"""Likelihood learning of deep Boltzmann machines: mean field for the data, contrastive negatives for the model."""

import torch

from energeia.core.energy import Energy
from energeia.core.errors import InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.record import Batch, Loss
from energeia.energies.dbm import DBM
from energeia.objectives.contrastive import Contrastive
from energeia.objectives.rows import rows_of


class MeanFieldPosterior(Objective):
    """mean F(v) over data - mean of E over negatives of the joint: ascent on log p(v) >= -F(v) - log Z.

    The hidden layers over each row of data are set to the means q of mean field (`DBM.mean_field`); what is
    between layers is then E_q[h h'], and E at the negatives is that of a contrastive objective on `dbm.joint`.
    With q at its fixed point and negatives from the model, the gradient is that of F(v) + log Z.

    Args:
        contrastive: what gives the negatives, on the joint: `PersistentCD(BlockGibbs(), 1)` is the
            method of the reference; `PersistentCD(ParallelTempering(BlockGibbs(), ...))` mixes better.
        num_sweeps: of mean field, at most. F is a bound after any number.
        tolerance: mean field stops once no mean changes by more.

    Biased as far as the posterior is not independent, and as the negatives are. The logged energies are those of
    the joint at mean fields and at negatives. Cost: two products with each weight above the first a sweep, beside
    what the contrastive objective costs on the joint.

    Reference: Salakhutdinov & Hinton (2009), Deep Boltzmann machines.
    https://proceedings.mlr.press/v5/salakhutdinov09a.html

    >>> import torch, energeia as en
    >>> dbm = en.DBM(4, (3, 2))
    >>> learn = en.MeanFieldPosterior(en.PersistentCD(en.BlockGibbs(), 1, num_chains=5))
    >>> loss = learn(dbm, en.Batch(torch.ones(2, 4)), torch.Generator())
    >>> loss.value.backward()
    """

    def __init__(self, contrastive: Contrastive, *, num_sweeps: int = 10, tolerance: float = 1e-2) -> None:
        super().__init__()
        check_count("MeanFieldPosterior", num_sweeps=num_sweeps)
        check_positive("MeanFieldPosterior", tolerance=tolerance)
        self.contrastive, self.num_sweeps, self.tolerance = contrastive, num_sweeps, tolerance

    def forward(self, energy: Energy, batch: Batch, generator: torch.Generator) -> Loss:
        """The contrastive loss of the joint, with the batch completed by mean field."""
        if not isinstance(energy, DBM):
            raise InputError(
                f"MeanFieldPosterior: is for en.DBM, got {type(energy).__name__}; hidden units that can be summed out "
                "need no mean field: use PersistentCD"
            )
        rows_of(energy, batch, "MeanFieldPosterior")
        found = energy.mean_field(batch.x, num_sweeps=self.num_sweeps, tolerance=self.tolerance)
        # Means of hidden units are no states, so these rows are compared without a check.
        completed = batch._replace(x=found.rows)
        negatives, info = self.contrastive.negatives(energy.joint, completed, generator)
        value, metrics = self.contrastive.compare(energy.joint, found.rows, negatives, info)
        sweeps = batch.x.new_tensor(float(found.sweeps))
        return Loss(value, {**metrics, "mean_field_sweeps": sweeps})
