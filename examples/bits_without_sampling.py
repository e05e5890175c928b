"""A Boltzmann machine of 10 bits learned in every way for discrete data: python examples/bits_without_sampling.py.

5,000 rows of a known machine. KL(truth | model) is exact, by enumeration; the exact likelihood says what 5,000 rows can
tell at all.
"""

import functools
import time

import torch

import energeia as en
from energeia.core.nodes import integration_nodes
from energeia.energies import Enumerated

generator = torch.Generator().manual_seed(0)
weight = torch.randn(10, 10, generator=generator) / 2
truth = en.BoltzmannMachine(
    10, weight=(weight + weight.T).fill_diagonal_(0) / 2, bias=torch.randn(10, generator=generator)
)
x = Enumerated(truth).sample_exact(5000, generator)
states, _ = integration_nodes(truth.space, dtype=torch.float32)
p = (-truth(states)).log_softmax(0).detach()
ways = {
    "exact likelihood": en.ExactLikelihood,
    "pseudo-likelihood": en.PseudoLikelihood,
    "ratio matching": en.RatioMatching,
    "minimum probability flow": en.MinimumProbabilityFlow,
    "concrete score matching": en.ConcreteScoreMatching,
    "energy discrepancy": lambda: en.EnergyDiscrepancy(0.2, num_samples=8),
    "noise contrast, independent bits": lambda: en.NoiseContrast(en.fitted_base(truth.space, x), ratio=8),
    "conditional noise contrast": en.ConditionalNCE,
    "contrastive divergence, 1 sweep": lambda: en.ContrastiveDivergence(en.Gibbs(), 1),
    "unbiased contrastive divergence": lambda: en.UnbiasedCD(en.Gibbs()),
}
for name, make in ways.items():
    model = en.BoltzmannMachine(10)
    began = time.process_time()
    en.fit(
        model,
        make(),
        x,
        num_steps=600,
        batch_size=500,
        optimizer=functools.partial(torch.optim.Adam, lr=0.02),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=600),
        progress=False,
    )
    with torch.no_grad():
        gap = float((p.exp() * (p - (-model(states)).log_softmax(0))).sum())
    print(f"{name:34} {gap:.4f} nats from the truth, {time.process_time() - began:5.1f} s")
