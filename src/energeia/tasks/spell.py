"""Answers as they are read."""

from collections.abc import Sequence

from torch import Tensor


def spelled(answer: Tensor, names: Sequence[str] | None) -> str:
    """One answer as it is read: labels by their names, one after another if all are single characters.

    Args:
        answer: label numbers `[*sites]`, -1 where no site is; or bits or real numbers `[*event]`.
        names: of the labels; None writes numbers.
    """
    if answer.is_floating_point():
        return " ".join(f"{value:g}" for value in answer.flatten().tolist())
    labels = [int(label) for label in answer.flatten().tolist() if label >= 0]
    written = [str(label) for label in labels] if names is None else [names[label] for label in labels]
    return ("" if are_letters(names) else " ").join(written)


def are_letters(names: Sequence[str] | None) -> bool:
    """Whether labels have names of one character each, so that answers are words."""
    return names is not None and all(len(name) == 1 for name in names)
