"""A loss that lets an energy collapse, and two that do not: python examples/tutorial_losses.py; a few seconds.

y = x^2 + noise is learnt by E(x, y) = |G1(x) - G2(y)|_1, which is zero for all answers once both networks are constant.
"""

import functools

import torch

import energeia as en

generator = torch.Generator().manual_seed(0)
x = 2 * torch.rand(200, 1, generator=generator) - 1
y = x.square() + 0.05 * torch.randn(200, 1, generator=generator)
answers = en.Box(1, low=-0.5, high=1.5)
grid = en.Enumeration(num_nodes=100)  # the best answers are looked up on 100 values of y


class Distance(torch.nn.Module):
    """|g - G2(y)|_1 of the features g = G1(x)."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, features, y):
        return (features - self.network(y)).abs().sum(1)


def network():
    """From one number to four. First weights larger than usual: near a flat start even the hinge can stay flat."""
    found = en.MLP(1, 4, widths=(20,))
    with torch.no_grad():
        next(found.parameters()).mul_(4)
    return found


objectives = {
    "energy loss": en.EnergyLoss(),
    "hinge": en.Margin("hinge", margin=1.0, radius=0.1, search=grid),
    "negative log-likelihood": en.ConditionalLikelihood(num_nodes=100),
}
tests = torch.linspace(-1, 1, 21).unsqueeze(1)
line = torch.linspace(-0.5, 1.5, 201).unsqueeze(1)
adam = functools.partial(torch.optim.Adam, lr=1e-2)
for name, objective in objectives.items():
    torch.manual_seed(0)
    energy = en.from_pair(Distance(), en.Real(1), answers, features=network())
    en.fit(energy, objective, (x, y), num_steps=400, batch_size=50, optimizer=adam, progress=False)
    found = en.predict(energy, tests, grid)
    error = (found.answers - tests.square()).square().mean().sqrt().item()
    with torch.no_grad():
        levels = en.given(energy, context=tests.repeat_interleave(201, 0))(line.repeat(21, 1)).view(21, 201)
    height = (levels.amax(1) - levels.amin(1)).mean().item()
    print(f"{name}: error of the best y {error:.3f}, energies of all y within {height:.3f}")
