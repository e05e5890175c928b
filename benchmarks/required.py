"""The speed that Energeia asks of itself, on one core: ratios of rates to other libraries in the same run."""

from typing import Any, NamedTuple


class Required(NamedTuple):
    """ours over theirs must be at least `least`. work, theirs: how the names begin; the fastest of theirs counts."""

    work: str
    ours: str
    theirs: tuple[str, ...]
    least: float


BEST = ("torchebm", "ebmkit", "blackjax")
REQUIRED = (
    Required("Langevin, mixture of 4 in 2-D, 10,000 chains", "Energeia", BEST, 1.9),
    Required("Langevin, MLP 2-128-128-1, 1,000 chains", "Energeia", BEST, 1.3),
    Required("Langevin, MLP 2-128-128-1, 1,000 chains", "Energeia", ("torchebm",), 1.6),
    Required(
        "Langevin, convolutional network, 128 pictures of 28 x 28", "Energeia, channels_last", ("torchebm",), 1.15
    ),
    Required(
        "Langevin, convolutional network, 128 pictures of 28 x 28",
        "Energeia, channels_last, bfloat16",
        ("torchebm",),
        1.6,
    ),
    Required("Langevin, mixture of 4 in 2-D, 16 chains", "Energeia", ("torchebm",), 6.0),
    Required("MALA, MLP 2-128-128-1, 1,000 chains", "Energeia", ("blackjax",), 1.3),
    Required("MALA, MLP 2-128-128-1, 1,000 chains", "Energeia", ("ebmkit",), 2.0),
    Required("HMC of 20 leapfrog steps of 0.08, Gaussian, d = 100", "Energeia", ("blackjax", "numpyro"), 1.0),
    Required("HMC of 12 leapfrog steps of 0.08, logistic regression", "Energeia", ("blackjax", "numpyro"), 1.0),
    Required("adapted HMC, Gaussian, d = 100", "Energeia, HMC, dense mass, 64 chains", ("blackjax", "numpyro"), 1.0),
    Required("adapted HMC, logistic regression", "Energeia, HMC, 64 chains", ("blackjax", "numpyro"), 1.0),
    Required("Gibbs, Ising 64 x 64, 1 chain", "Energeia", ("thrml", "hamon"), 3.0),
    Required("Gibbs, Ising 64 x 64, 32 chains", "Energeia", ("thrml", "hamon"), 2.0),
)


def required(records: list[dict[str, Any]]) -> list[list[str]]:
    """A line for each: work and against whom, asked, measured, and whether it was met."""
    lines: list[list[str]] = []
    for one in REQUIRED:
        # A contender without a ratio does not sample the target; one with the memory format is there for information.
        rates = {
            record["who"]: record["value"]
            for record in records
            if record["work"].startswith(one.work)
            and record["work"].endswith("; 1 core")
            and record["ratio"] is not None
        }
        theirs = {who: rate for who, rate in rates.items() if who.startswith(one.theirs) and "channels_last" not in who}
        if one.ours not in rates or not theirs:
            lines.append([f"{one.work}, against {' and '.join(one.theirs)}", f"{one.least:g}", "not measured", ""])
            continue
        fastest = max(theirs, key=lambda who: theirs[who])
        ratio = rates[one.ours] / theirs[fastest]
        ours = " (bfloat16)" if "bfloat16" in one.ours else ""
        met = "met" if ratio >= one.least else "**missed**"
        lines.append([f"{one.work}{ours}, against {fastest}", f"{one.least:g}", f"{ratio:.2f}", met])
    return lines
