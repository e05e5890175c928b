"""stub"""

import torch
from energeia.energies.trees import *


def _f(u, t, l):
    B, T, K = u.shape
    e = torch.stack([torch.arange(T - 1), torch.arange(1, T)], 1)
    tab = t.expand(T - 1, K, K) if t.dim() == 2 else t
    p = None if l is None else torch.arange(T) < l.unsqueeze(1)
    return Forest(T, e), tab, p


def chain_log_partition(u, t, l=None):
    f, tab, p = _f(u, t, l)
    return tree_log_partition(u, tab, f, present=p)


def chain_marginals(u, t, l=None):
    f, tab, p = _f(u, t, l)
    return tree_marginals(u, tab, f, present=p).sites


def chain_best(u, t, l=None, num_best=1):
    f, tab, p = _f(u, t, l)
    return tree_best(u, tab, f, num_best=num_best, present=p)


def chain_sample(u, t, l, n, g):
    f, tab, p = _f(u, t, l)
    return tree_sample(u, tab, f, n, g, present=p)
