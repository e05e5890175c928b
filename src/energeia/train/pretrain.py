"""Greedy training of deep models, layer by layer."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from energeia.core.errors import InputError
from energeia.energies.copied import Copied
from energeia.energies.dbm import DBM
from energeia.energies.dbn import DBN
from energeia.energies.rbm import RBM
from energeia.objectives.contrastive import PersistentCD
from energeia.samplers import BlockGibbs
from energeia.train.fit import OptimizerFactory, fit


def pretrain(
    model: DBM | DBN,
    data: Tensor,
    *,
    num_steps: int = 1000,
    batch_size: int = 100,
    optimizer: OptimizerFactory | None = None,
    num_chains: int = 100,
    seed: int = 0,
) -> None:
    """Set the weights of a deep model by training restricted Boltzmann machines one upon the other.

    Each learns (PCD-1) the hidden units that the one below draws for the data. In a `DBM`, units between two
    layers are driven from both sides, and a machine alone drives them from one: so the lowest is trained
    with two copies of v, the highest with two of h_L, and the weights of those in between are halved; biases are
    the means of what the machines on both sides have. In a `DBN` they are what they are, and the way up is recognition.

    Args:
        model: changed in place.
        data: bits `[N, *event]`.
        num_steps: updates of each layer.
        batch_size, optimizer, seed: as for `fit`.
        num_chains: of PCD.

    A centred `DBM` can be trained without. Reference: Hinton, Osindero & Teh (2006), A fast learning algorithm for deep
    belief nets, https://doi.org/10.1162/neco.2006.18.7.1527; Salakhutdinov & Hinton (2009), Deep Boltzmann
    machines, https://proceedings.mlr.press/v5/salakhutdinov09a.html

    >>> import torch, energeia as en
    >>> dbn = en.DBN(4, (3, 2))
    >>> en.pretrain(dbn, en.Binary(4).start(50, torch.Generator().manual_seed(0)), num_steps=5)
    """
    if not isinstance(model, DBM | DBN):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"pretrain: is for en.DBM and en.DBN, got {type(model).__name__}")
    model.space.check(data, "pretrain: data")
    sizes = model.joint.sizes if isinstance(model, DBM) else model.sizes
    generator = torch.Generator(data.device).manual_seed(seed)
    rows, found = data.flatten(1), list[Copied]()
    for layer, (below, above) in enumerate(itertools.pairwise(sizes)):
        with torch.random.fork_rng([]):
            torch.manual_seed(seed + layer)
            machine = RBM(below, above, mean=rows.mean(0).cpu()).to(rows)
        pair = Copied(machine, **_copies(model, layer, len(sizes) - 1))
        contrastive = PersistentCD(BlockGibbs(), 1, num_chains=num_chains)
        with torch.no_grad():
            machine.bias.div_(pair.above)
        fit(
            pair,
            contrastive,
            rows.repeat(1, pair.below),
            num_steps=num_steps,
            batch_size=batch_size,
            optimizer=optimizer,
            checkpoint_every=num_steps,
            seed=seed + layer,
        )
        found.append(pair)
        rows = pair.draw_hidden(rows, generator)
    with torch.no_grad():
        if isinstance(model, DBM):
            compose(model, found)
        else:
            model.load_state_dict(DBN.stacked([pair.machine for pair in found]).state_dict())


def _copies(model: DBM | DBN, layer: int, num_weights: int) -> dict[str, int]:
    """Two copies of what is at an end of a deep Boltzmann machine; of a machine of one layer there is no other side."""
    if isinstance(model, DBN) or num_weights == 1:
        return {"below": 1, "above": 1}
    return {"below": 2 if layer == 0 else 1, "above": 2 if layer == num_weights - 1 else 1}


def compose(model: DBM, found: Sequence[Copied]) -> None:
    """Set a deep Boltzmann machine so that each unit is driven as by the mean of its machines on both sides."""
    joint = model.joint
    for layer, pair in enumerate(found):
        ends = layer == 0 or layer == len(found) - 1
        joint.weights[layer].copy_(pair.machine.weight * (1 if ends else 0.5))
    lower = [pair.above * pair.machine.bias for pair in found]
    upper = [pair.machine.hidden_bias for pair in found]
    joint.biases[0].copy_(lower[0])
    joint.biases[len(found)].copy_(upper[-1])
    for layer in range(1, len(found)):
        joint.biases[layer].copy_((upper[layer - 1] + lower[layer]) / 2)
