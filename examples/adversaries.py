"""A flow that learns against the energy, in three ways: python examples/adversaries.py.

Two moons, the same network each time. `FlowContrast`: the flow is the noise that the energy is told from, and comes
nearer. `AdversarialNCE`: the same beside a noise that stays. `AdversarialLikelihood`: the flow draws the negative rows
of maximum likelihood, and its entropy keeps it from a single mode. The flow has a likelihood of its own: both are told.
The last two begin with a flow that was fitted to the data.
"""

import functools
import time

import torch

import energeia as en
from energeia.data import Toy

toy = Toy("two_moons")
splits = toy.splits()
x, test = splits.train.x, splits.test.x
space = en.Real(2)
print(f"entropy of the data: {float(toy.density.entropy()):.3f} nats")


def fitted() -> en.Flow:
    flow = en.Flow.spline(space, x=x, widths=(32, 32))
    adam = functools.partial(torch.optim.Adam, lr=5e-3)
    en.fit(flow, en.ExactLikelihood(), x, num_steps=200, batch_size=512, optimizer=adam, progress=False)
    return flow


def fresh() -> en.Flow:
    return en.Flow.spline(space, x=x, widths=(32, 32))


ways = {
    "flow contrast": (fresh, en.FlowContrast, 300, 5e-3),
    "adversarial noise contrast": (
        fitted,
        lambda flow: en.AdversarialNCE(flow, en.fitted_noise(space, x), turns=(4, 1)),
        600,
        5e-3,
    ),
    "adversarial likelihood": (fitted, en.AdversarialLikelihood, 400, 2e-3),
}
for name, (begin, make, num_steps, rate) in ways.items():
    torch.manual_seed(0)
    flow = begin()
    energy = en.Neural(en.MLP(2, widths=(128, 128, 128)), space) + en.Gaussian(2, scale=2.0)
    began = time.perf_counter()
    en.fit(
        energy,
        make(flow),
        x,
        num_steps=num_steps,
        batch_size=256,
        optimizer=functools.partial(torch.optim.Adam, lr=rate, betas=(0.0, 0.9)),
        scheduler=functools.partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=num_steps),
        average_decay=0.99,
        progress=False,
    )
    seconds = time.perf_counter() - began
    with torch.no_grad():
        of_flow = float(flow.log_prob(test).mean())
    of_energy = float(en.log_likelihood(energy, test).mean)
    print(f"{name}: energy {of_energy:.3f}, flow {of_flow:.3f} nats a row, {seconds:.0f} s")
