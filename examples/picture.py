"""The picture of the README: python examples/picture.py RUN [FILE]."""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from energeia import run

loaded = run.load(Path(sys.argv[1]))
path = Path(sys.argv[2] if len(sys.argv) > 2 else "digits.png")
splits = loaded.built.source.splits()
assert splits.test is not None
frames = run.draw(loaded, num=6, num_frames=7)
film = torch.cat([run.start_points(loaded, num=6).unsqueeze(0), frames.kept])[:7]
parts = {
    "held-out digits": splits.test.x[:48],
    "samples": run.draw(loaded, num=48, seed=1).x,
    "from noise to digits": film.transpose(0, 1).flatten(0, 1),
}
figure = Figure(figsize=(10, 3.2), layout="constrained")
for axes, (title, x), columns in zip(figure.subplots(1, 3), parts.items(), (8, 8, 7), strict=True):
    rows = x.view(len(x) // columns, columns, 8, 8)
    framed = torch.nn.functional.pad(rows, (0, 1, 0, 1), value=-0.4)
    axes.imshow(framed.permute(0, 2, 1, 3).reshape(rows.shape[0] * 9, columns * 9), cmap="gray_r", vmin=-1, vmax=1)
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()
figure.savefig(path, dpi=150)
print(path)
