"""A run's answers to the rows of a file, and the table of them."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from energeia import settings
from energeia.core.answers import Answering
from energeia.core.errors import InputError, check_count
from energeia.core.progress import progress_bar
from energeia.data import Reading, source_class
from energeia.energies.pair import answering
from energeia.run import Run
from energeia.tasks.predict import Prediction, joined, predict
from energeia.tasks.spell import spelled


def answers_to(
    run: Run, path: str, *, num_best: int = 2, batch_size: int = 256, trust: bool = False, progress: bool | None = None
) -> Prediction:
    """The best answers to every row of a file, in its order.

    Args:
        run: a loaded run, of an energy with answers or classes.
        path: a file of the kind that the run was trained on; for runs on data that comes with no file, as `Digits`,
            a table or a folder of pictures, in the units of those data.
        num_best: answers to each row.
        batch_size: rows at once.
        trust: as of `load`.
        progress: whether to show a bar; None on a terminal alone.

    Raises:
        CapabilityError: the energy has neither answers nor classes.
        InputError: the file is missing or does not fit the model.
    """
    check_count("predict", num_best=num_best, batch_size=batch_size)
    energy, shape = run.energy, run.built.source.event_shape
    answering(energy, f"energeia predict: the run {run.folder}")
    if not Path(path).exists():
        raise InputError(f"--data {path}: there is no such file or folder")
    source = settings.source_of(run.folder, trust=trust)
    if not isinstance(source, Reading):
        source = source_class(path)(path)
    x = source.read(path, shape).x
    if energy.capability(Answering) is None:
        energy.space.check(x, path)
    parts: list[Prediction] = []
    with progress_bar(progress) as bar:
        bar.begin("predicting", len(x))
        for rows in x.split(batch_size):
            parts.append(predict(energy, rows, num_best=num_best, batch_size=batch_size))
            bar.reached(sum(len(part.answers) for part in parts))
    return joined(parts)


def write_csv(path: Path, found: Prediction, names: Sequence[str] | None) -> Path:
    """Write predictions as a table and return its path.

    Columns: row (from 0), answer_1 to answer_k, gap (E of the second less E of the first, with k of 2 or more),
    energy_1 to energy_k, exact. Energies in nats. Cells are empty where fewer than k answers are known.
    """
    num_best = found.best.shape[1]
    numbers = range(1, num_best + 1)
    gap = ["gap"] if found.gap is not None else []
    header = ["row", *(f"answer_{k}" for k in numbers), *gap, *(f"energy_{k}" for k in numbers), "exact"]
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for row, (answers, energies) in enumerate(zip(found.best.cpu(), found.best_energies.tolist(), strict=True)):
            known = [math.isfinite(energy) for energy in energies]
            told = [spelled(answer, names) if there else "" for answer, there in zip(answers, known, strict=True)]
            values = [energies[1] - energies[0], *energies] if gap else energies
            written = [f"{value:.6g}" if math.isfinite(value) else "" for value in values]
            table.writerow([row, *told, *written, str(found.exact).lower()])
    temporary.replace(path)
    return path
