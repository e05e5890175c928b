"""Geometric and moment-averaged paths of annealing at equal levels: how far log weights spread, and the error."""

import torch

import energeia as en
from benchmarks.harness import Row, progress, run
from benchmarks.log_z import Hidden


def rows(quick: bool) -> list[Row]:
    """Both paths on models whose log Z is known, 1,000 chains, 100 levels laid by the pilot."""
    torch.manual_seed(0)
    models: dict[str, en.RBM | en.IsingLattice] = {
        f"RBM 20-10, weights of {scale:g}": en.RBM(20, 10, weight_scale=scale).double() for scale in (0.5, 1.5, 3.0)
    }
    for coupling in (0.2, 0.4):
        tensor = torch.tensor(coupling, dtype=torch.float64)
        models[f"Ising 4 x 4, K = {coupling:g}"] = en.IsingLattice((4, 4), coupling=tensor)
    found: list[Row] = []
    for name, energy in models.items():
        exact = float(en.exact_log_z(energy).value)
        for seed in range(1 if quick else 3):
            generator = torch.Generator().manual_seed(seed)
            draws = en.Enumerated(energy).sample_exact(1000, generator)
            path = en.moment_path(energy, draws, num_steps=50 if quick else 500, generator=generator)
            sites = energy.space
            assert isinstance(sites, en.Binary | en.Spin)
            uniform = en.Independent(sites, torch.zeros(sites.event_shape, dtype=torch.float64))
            ways = {
                "moment path": en.ais(Hidden(energy), path=path, num_chains=1000, levels=100, generator=seed),
                "geometric, from base rates": en.ais(Hidden(energy), num_chains=1000, levels=100, generator=seed),
                "geometric, from uniform": en.ais(
                    Hidden(energy), base=uniform, num_chains=1000, levels=100, generator=seed
                ),
            }
            for who, told in ways.items():
                logs = told.details["log_estimates"]
                found += [
                    Row(name, who, float(logs.std()), "spread of log weights (nats)", seed),
                    Row(name, who, float(told.value) - exact, "error (nats)", seed),
                ]
                progress(f"{name}, {who}: {float(logs.std()):.3g}")
    return found


if __name__ == "__main__":
    run("paths", rows)
