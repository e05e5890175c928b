"""log Z of the Ising model in every way there is, next to the exact one: python examples/log_z_ising.py [K].

An 8 x 8 torus. Kaufman's formula and variable elimination are exact; mean field, Bethe and tree-reweighted messages
and perturbed maxima bound; annealing estimates from both sides. Try K = .2, .44 (the critical point) and .8.
"""

import sys
import time

import torch

import energeia as en

coupling = float(sys.argv[1]) if len(sys.argv) > 1 else 0.4
torus = en.IsingLattice((8, 8), coupling=torch.tensor(coupling, dtype=torch.float64))
# The same as a graph like any other, so that annealing does not fall back on the closed form.
graph = en.Ising((8, 8), torus.edges, couplings=torus.coupling.detach())
ways = {
    "closed form (log_z)": lambda: en.log_z(torus),
    "variable elimination": lambda: en.variable_elimination(torus),
    "mean field": lambda: en.mean_field(torus),
    "Bethe": lambda: en.bethe(torus),
    "tree-reweighted": lambda: en.tree_reweighted(torus),
    "perturb-and-MAP": lambda: en.gumbel_bounds(torus),
    "annealed, both sides": lambda: en.bracket(graph, tolerance=0.1),
    "sequential Monte Carlo": lambda: en.smc(graph),
    "tempering": lambda: en.tempering(graph),
}
exact = float(en.log_z(torus).value)
print(f"8 x 8 torus, K = {coupling:g}: log Z = {exact:.6f}")
for name, way in ways.items():
    began = time.perf_counter()
    found = way()
    seconds = time.perf_counter() - began
    value, low, high = (float(end) - exact for end in (found.value, found.low, found.high))
    print(f"{name:24} {found.kind:12} {value:+9.4f}   from {low:+9.4f} to {high:+9.4f}   {seconds:5.2f} s")
    print(f"    {found.method}")
