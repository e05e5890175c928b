"""python -m benchmarks.peers: each family of works in a process of its own, on one core and on two."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Row, run

FAMILIES = ("langevin", "hmc", "gibbs", "floors", "growth")
# What is run on two cores as well.
ON_TWO_CORES = ("langevin", "gibbs")


def rows(quick: bool) -> list[Row]:
    """All families, in turn; quick runs on one core alone."""
    with tempfile.TemporaryDirectory() as folder:
        found: list[Row] = []
        for cores in (1,) if quick else (1, 2):
            for family in FAMILIES if cores == 1 else ON_TWO_CORES:
                found += _child(family, cores, quick, Path(folder))
    return found


def _child(family: str, cores: int, quick: bool, folder: Path) -> list[Row]:
    """Threads and cores are settings of a process, so each number of cores has its own."""
    flags = f"--xla_cpu_multi_thread_eigen={'true' if cores > 1 else 'false'} intra_op_parallelism_threads={cores}"
    settings = {"OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores), "XLA_FLAGS": flags}
    # A cache of its own: compile times are those of a first use, and code for one core is not run on two.
    settings["TORCHINDUCTOR_CACHE_DIR"] = str(folder / f"compiled-{cores}")
    output = folder / f"{family}-{cores}.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--family",
        family,
        "--cores",
        str(cores),
        "--out",
        str(output),
    ]
    subprocess.run([*command, *(["--quick"] if quick else [])], env={**os.environ, **settings}, check=True)
    return [Row(*record) for record in json.loads(output.read_text())]


def _family() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.peers")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--cores", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    # The last ones: the first is where most machines do their own work.
    cores = sorted(os.sched_getaffinity(0))[-options.cores :]
    if len(cores) < options.cores:
        raise SystemExit(f"{options.cores} cores are needed, there are {len(cores)}")
    os.sched_setaffinity(0, set(cores))
    import torch  # after the cores are set, which it reads

    from benchmarks.peers.race import Setting

    torch.set_num_threads(options.cores)
    module = importlib.import_module(f"benchmarks.peers.{options.family}")
    options.out.write_text(json.dumps(module.rows(Setting(options.quick, options.cores))))


if __name__ == "__main__":
    if "--family" in sys.argv:
        _family()
    else:
        run("peers", rows)
