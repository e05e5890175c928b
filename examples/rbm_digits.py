"""A restricted Boltzmann machine of digits: trained, measured and looked at.

python examples/rbm_digits.py [FOLDER]
"""

import functools
import sys
from pathlib import Path

import torch

import energeia as en
from energeia.data import Binarised, Digits
from energeia.report.hidden import filters
from energeia.report.pictures import real_and_samples

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
splits = Binarised(Digits(), flat=True).splits()
x, test = splits.train.x, splits.test.x

torch.manual_seed(0)
rbm = en.RBM(64, 64, mean=x.mean(0))
en.fit(
    rbm,
    en.PersistentCD(en.BlockGibbs(), 1, num_chains=100),
    x,
    num_steps=4000,
    batch_size=50,
    optimizer=functools.partial(torch.optim.SGD, lr=0.05),
    average_decay=0.99,
)

found = en.log_likelihood(rbm, test)
print(f"log p of held-out digits: {found.mean:.2f} nats, between {found.low:.2f} and {found.high:.2f}")
print("log Z by", found.log_z.method)
print("features:", tuple(rbm.transform(test).shape))
real_and_samples(test, rbm.sample(48)).savefig(folder / "rbm-samples.png")
filters(rbm.weight.T).savefig(folder / "rbm-filters.png")
