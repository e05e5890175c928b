"""One picture of all models: densities down, the truth and the methods across, all on one scale in each row."""

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.objectives import plane
from energeia.report.style import INK, SMALL, new_figure


def draw(pictures: dict[tuple[str, str], Tensor], path: Path) -> None:
    """Heat maps of the square root of the density, black where there is none.

    Args:
        pictures: log density on [-4, 4]^2 by (density, method).
        path: a PNG.
    """
    names = list(dict.fromkeys(name for name, _ in pictures))
    methods = list(dict.fromkeys(method for _, method in pictures))
    columns = ["the truth", *methods]
    figure = new_figure(1.0 * len(names) + 0.5, width=1.0 * len(columns) + 0.4)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)  # type: ignore[union-attr,call-arg]
    grid = figure.subplots(len(names), len(columns), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        truth = plane.true_picture(name.split(", ")[0])
        # The square root shows tails that the density itself would hide; the same scale for all of a row.
        top = float(truth.exp().sqrt().max())
        for axes, column in zip(row, columns, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            values = truth if column == "the truth" else pictures.get((name, column))
            if values is None:
                axes.axis("off")
                continue
            shown = values.double().exp().sqrt().T
            axes.imshow(shown.numpy(), origin="lower", cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        row[0].set_ylabel(name.replace("_", " "), fontsize=SMALL, color=INK)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title("\n".join(_broken(column)), fontsize=6.5, color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def save(folder: Path, name: str, method: str, seed: int, picture: Tensor) -> None:
    """Keep a picture beside the rows, so that a resumed run can draw all."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(picture.clamp_min(-60.0).half(), folder / f"{name}--{_plain(method)}--{seed}.pt")


def load(folder: Path, name: str, method: str, seed: int) -> Tensor | None:
    """A picture that was kept."""
    path = folder / f"{name}--{_plain(method)}--{seed}.pt"
    return torch.load(path, weights_only=True) if path.is_file() else None


def _plain(method: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in method)


def _broken(text: str) -> list[str]:
    """Words in lines of at most 13 letters."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) > 13:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
