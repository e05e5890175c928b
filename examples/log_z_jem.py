"""A classifier that knows how likely its input is: log p(x) of a joint energy model: python examples/log_z_jem.py.

E(x) = -logsumexp of the logits of a small network on two moons, kept normalisable by a wide Gaussian. With log Z known
between two sides, log p(x) is a density that can be compared with that of any other model, and of what the classifier
was never shown.
"""

import torch
from sklearn.datasets import make_moons

import energeia as en

points, classes = make_moons(2000, noise=0.1, random_state=0)
x, y = torch.tensor(points, dtype=torch.float32), torch.tensor(classes)
torch.manual_seed(0)
network = en.MLP(2, 2, widths=(64, 64))
energy = en.Classifier(network, en.Real(2)) + en.Gaussian(2, scale=4.0)
objective = en.PersistentCD(en.Langevin(step_size=0.01), 20, num_chains=500)
en.fit(
    energy,
    en.Joint(objective, weight=1.0),
    en.Batch(x[:1500], y[:1500]),
    num_steps=1500,
    batch_size=200,
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    average_decay=0.99,
    progress=False,
)
found = en.log_likelihood(energy, x[1500:])
print(f"log Z by {found.log_z.method}")
print(f"because {found.log_z.details['why']}")
print(f"log p of held-out points: {found.mean:.3f} nats, from {found.low:.3f} to {found.high:.3f}")
both = en.bracket(energy, x[1500:], tolerance=0.05)
print(f"log Z by quadrature {float(found.log_z.value):.3f}, annealed {float(both.low):.3f} to {float(both.high):.3f}")
for name, point in (("on a moon", [0.0, 1.0]), ("between them", [0.5, 0.25]), ("far away", [3.0, 3.0])):
    with torch.no_grad():
        row = torch.tensor([point])
        sure = en.require(energy, en.Classes, who="this", instead="").class_energies(row).neg().softmax(1).max()
        log_p = -float(energy(row)) - float(found.log_z.value)
    print(f"{name:13} log p(x) {log_p:7.2f}   p(y | x) of the likelier class {float(sure):.3f}")
