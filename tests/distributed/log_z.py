"""log Z on a number of processes: log_z.py DEVICES FILE."""

import json
import sys
from pathlib import Path

import torch

import energeia as en


def energy():
    torch.manual_seed(0)
    return en.RBM(8, 5, weight_scale=0.9).double()


if __name__ == "__main__":
    devices, file = int(sys.argv[1]), Path(sys.argv[2])
    found = en.log_z_parallel(
        energy(), num_chains=31, levels=20, num_steps=20, tolerance=0.12, devices=devices, accelerator="cpu", seed=3
    )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    told = {"ends": [float(found.low), float(found.value), float(found.high)], "history": found.details["history"]}
    told["chains"] = found.details["lower"].details["num_chains"]
    file.with_suffix(f".{rank}").write_text(json.dumps(told))
