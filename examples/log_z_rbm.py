"""The log-likelihood of a restricted Boltzmann machine that is too large to list: python examples/log_z_rbm.py [FILE].

Digits cut into bits, those pixels that ever vary, and 40 hidden units: 2^40 terms. log Z is annealed from below and
from above with levels doubled until both ends are .1 nats apart; the picture shows them closing in.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits

import energeia as en
from energeia.report.likelihood import bracket_curve

levels, _ = load_digits(return_X_y=True)
x = torch.as_tensor(levels >= 8).float()
x = x[:, x[:1350].std(0) > 0]
train, held_out = x[:1350], x[1350:]
torch.manual_seed(0)
machine = en.RBM(x.shape[1], 40, mean=train.mean(0))
en.fit(
    machine,
    en.PersistentCD(en.BlockGibbs(), 1, num_chains=100),
    train,
    num_steps=5000,
    batch_size=50,
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
    progress=False,
)
found = en.log_likelihood(machine, held_out, levels=60, num_steps=200, tolerance=0.05)
print(f"log Z {float(found.log_z.value):.3f}, from {float(found.log_z.low):.3f} to {float(found.log_z.high):.3f}")
print(f"by {found.log_z.method}")
print(f"because {found.log_z.details['why']}")
print(f"log p of held-out rows: {found.mean:.3f} nats, from {found.low:.3f} to {found.high:.3f}")
bits = en.bits_per_dimension(found, machine.space)
print(f"that is {bits.value:.4f} bits a pixel")
for round_ in found.log_z.details["history"]:
    print(
        f"{round_['levels']:6.0f} levels: {round_['low']:.3f} to {round_['high']:.3f}, {round_['seconds']:.1f} s in all"
    )
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("log-z-rbm.png")
bracket_curve(found.log_z.details["history"]).savefig(path, dpi=150)
print(f"picture: {path}")
