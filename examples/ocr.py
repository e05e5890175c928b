"""Sequences read as a whole: a linear-chain random field against reading every letter alone.

python examples/ocr.py [FILE] [--folder FOLDER]

FILE: letter.data.gz, handwritten words from http://ai.stanford.edu/~btaskar/ocr/ (minutes). Without it, sequences of
scikit-learn's digits that follow one another by a law of chance, blurred by noise (seconds).
"""

import argparse
from pathlib import Path

import torch

import energeia as en
from energeia.data import Affine, Digits, EachSite, Sequences
from energeia.report.readings import Reading, readings

PADDING = -1.0


def digit_sequences(pool: en.Batch, num: int, seed: int) -> en.Batch:
    """Sequences of 3 to 8 digits, each mostly one or three more than the one before; x `[num, 8, 8, 8]` in 0..1."""
    assert pool.y is not None
    generator = torch.Generator().manual_seed(seed)
    law = torch.full((10, 10), 0.02)
    for digit in range(10):
        law[digit, (digit + 1) % 10], law[digit, (digit + 3) % 10] = 0.55, 0.29
    x, y = torch.full((num, 8, 8, 8), PADDING), torch.full((num, 8), -1)
    for row in range(num):
        digit = int(torch.randint(10, (), generator=generator))
        for place in range(int(torch.randint(3, 9, (), generator=generator))):
            same = (pool.y == digit).nonzero()[:, 0]
            chosen = int(same[torch.randint(len(same), (), generator=generator)])
            noise = 0.3 * torch.randn(8, 8, generator=generator)
            x[row, place] = ((pool.x[chosen, 0] + 1) / 2 + noise).clamp(0, 1)
            y[row, place] = digit
            digit = int(torch.multinomial(law[digit], 1, generator=generator))
    return en.Batch(x, y)


def fitted(train: en.Batch, num_labels: int, *, transitions: bool, context: int, num_steps: int) -> en.LinearChain:
    """A chain whose terms come from a small network."""
    torch.manual_seed(0)
    shape = tuple(train.x.shape[1:])
    network = en.SequenceNet(shape, num_labels, context=context, activation="relu")
    chain = en.LinearChain(network, en.Real(shape), num_labels, padding=PADDING, transitions=transitions)
    shift = EachSite(Affine(rotation_degrees=8, translation=1.0), padding=PADDING)

    def adam(weights: list[torch.nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(weights, lr=3e-3)

    loss = en.ConditionalLikelihood()
    en.fit(chain, loss, train, num_steps=num_steps, optimizer=adam, transform=shift, average_decay=0.98)
    return chain


def main() -> None:
    """Train both, print their errors, and draw what the chain reads."""
    parser = argparse.ArgumentParser("python examples/ocr.py")
    parser.add_argument("file", nargs="?", help="letter.data.gz, or an .npz file as energeia.data.Sequences reads")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the picture goes")
    options = parser.parse_args()
    if options.file is None:
        digits = Digits().splits()
        assert digits.test is not None
        train, test = digit_sequences(digits.train, 600, 0), digit_sequences(digits.test, 200, 1)
        names, context, num_steps = "0123456789", 0, 200
    else:
        names, context, num_steps = "abcdefghijklmnopqrstuvwxyz", 3, 900
        splits = Sequences(options.file, site_shape=(16, 8), alphabet=names, test_fold=0).splits()
        assert splits.test is not None
        train, test = splits.train, splits.test
    assert test.y is not None
    for transitions in (False, True):
        chain = fitted(train, len(names), transitions=transitions, context=context, num_steps=num_steps)
        found = en.assess(chain, test.x, test.y)
        who = "as a chain:   " if transitions else "letters alone:"
        print(f"{who} {found.site_error:.1%} of the labels wrong, {found.row_error:.1%} of the sequences")
    print(f"of another {found.second_right:.1%} of the sequences the second reading is right")
    best = found.prediction
    assert best.gap is not None
    shown: list[Reading] = []
    for row in best.gap.argsort()[:6].tolist():
        there = test.y[row] >= 0
        right, first, second = (
            [names[label] for label in labels[there].tolist()] for labels in (test.y[row], *best.best[row, :2])
        )
        shown.append(Reading(test.x[row, there], right, first, second, float(best.gap[row])))
    readings(shown).savefig(options.folder / "readings.png")


if __name__ == "__main__":
    main()
