"""Rows of the densities of the plane: two moons, spirals and the like, whose truth is known."""

import torch

from energeia.core.errors import InputError, check_count
from energeia.core.random import seed_of
from energeia.core.record import Batch
from energeia.data.foreign import foreign_sets
from energeia.data.source import Contents, Source, Splits
from energeia.energies.planar import Planar, PlanarName


class Toy(Source):
    """Independent rows `[2]` of one of the densities of `energeia.energies.Planar`.

    What a model of them can reach is known: the mean of -log q(x) over rows cannot be expected to be below
    `Planar(name).entropy()`.

    Args:
        name: "mixture", "rings", "two_moons", "pinwheel", "spirals", "checkerboard", "swiss_roll" or "funnel".
        num_rows: training rows.
        num_held_out: validation rows, and as many test rows.
        labels: give the part that each row was drawn from (the moon, the ring, the arm) as its class; not for
            "swiss_roll" and "funnel", which have one part.
        draw_seed: of the draws; the same arguments give the same rows.

    The foreign set is "shuffled columns" of the test rows.

    Raises:
        InputError: no such name, a number of rows below 1, or labels of a density that has one part.

    Example:
        >>> Toy("two_moons").splits().train.x.shape
        torch.Size([20000, 2])
    """

    def __init__(
        self,
        name: PlanarName = "two_moons",
        *,
        num_rows: int = 20_000,
        num_held_out: int = 5_000,
        labels: bool = False,
        draw_seed: int = 0,
    ) -> None:
        super().__init__()
        check_count("Toy", num_rows=num_rows, num_held_out=num_held_out)
        self.density = Planar(name)
        if labels and self.density.num_classes == 1:
            raise InputError(f"Toy: {name} has one part, so there are no classes; leave labels off")
        self.num_rows, self.num_held_out, self.labels, self.draw_seed = num_rows, num_held_out, labels, draw_seed

    def load(self) -> Contents:
        """Draw the rows."""
        generator = torch.Generator().manual_seed(seed_of(self.draw_seed, "data"))
        sizes = (self.num_rows, self.num_held_out, self.num_held_out)
        parts = [self.density.sample_labelled(size, generator) for size in sizes]
        train, validation, test = (part if self.labels else Batch(part.x) for part in parts)
        infinity = float("inf")
        foreign = foreign_sets(test, as_images=False, low=-infinity, high=infinity)
        splits = Splits(train, validation, test, foreign)
        return Contents(splits, (2,), self.density.num_classes if self.labels else None, -infinity, infinity, False)
