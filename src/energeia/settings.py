"""A run as YAML: from recipe and options to objects, and back. jsonargparse does the work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from torch import Tensor

from energeia.arguments import expand, readable, recipes
from energeia.core.energy import Energy
from energeia.core.errors import CheckpointError, EnergeiaError, InputError, check_count, check_positive
from energeia.core.objective import Objective
from energeia.core.random import seed_of
from energeia.core.sampler import Sampler
from energeia.data import Described, Source
from energeia.samplers import Langevin
from energeia.train import fit
from energeia.trust import foreign_names

CONFIG, DATA = "config.yaml", "data.yaml"


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn from the trained energy.

    Args:
        sampler: the transition.
        num_steps: steps from the space's start points.
        warmup: steps before them in which the sampler tunes itself (0: it runs as given).
        denoise: variance of the noise that the model was trained with, over the sampler's
            temperature: the last state is replaced by the mean of the clean point given it
            (`energeia.tasks.restore.denoise`). None leaves samples as the chain ends.
    """

    sampler: Sampler = field(default_factory=lambda: Langevin(step_size=1e-2))
    num_steps: int = 1000
    warmup: int = 0
    denoise: float | None = None

    def __post_init__(self) -> None:
        check_count("Sampling", num_steps=self.num_steps, warmup=self.warmup or 1)
        if self.denoise is not None:
            check_positive("Sampling", denoise=self.denoise)


class Built(NamedTuple):
    """The objects of a run. fitting: the remaining arguments of `fit`."""

    source: Source
    energy: Energy
    objective: Objective
    sampling: Sampling
    fitting: dict[str, Any]


_ABOUT = """Train a model: energeia train [RECIPE or YAML file] [--option value ...]

Recipes: {recipes}. Without one, --data PATH picks "joint" if the data has labels
(for a table: --data.label COLUMN) and "density" if it has none. Options of a class are
dotted: --objective.weight 0.5. Classes of energeia and torch go by their name, your own,
of a module in this directory, by their import path: --energy.network my_module.MyNetwork.
What the data decides is filled in: event_shape and num_outputs of the network, shape, low
and high of the space, shape and first mean of visible units; total_steps of a schedule, if
not given, is num_steps. --print_config shows every setting and stops; --energy.help
Classifier, --objective.help Joint and so on tell what a class takes. A run goes to a new
directory; Ctrl-C saves it, and energeia resume goes on from there."""


def training_parser() -> ArgumentParser:
    """The parser of `energeia train`: data, sampling, transform and every argument of `fit`.

    What the data decides, it gives: shapes and number of outputs of the network, the
    shape and bounds of the space, the shape and first mean of visible units. Those are no options.
    """
    about = _ABOUT.format(recipes=", ".join(recipes()))
    parser = ArgumentParser("energeia train", description=about, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of settings; later options win")
    parser.add_argument("--out", type=str | None, default=None, help="new run directory; default runs/NAME-DATE-TIME")  # type: ignore[arg-type]
    parser.add_argument("--report", type=bool, default=True, help="evaluate and write the report at the end")
    parser.add_argument(
        "--data",
        type=Source,
        required=True,
        help="a Source class, or the path of a .npz, .csv or .parquet file or of a folder of pictures",
    )
    parser.add_argument("--sampling", type=Sampling, default=Sampling(), help="how samples are drawn afterwards")
    parser.add_function_arguments(fit, skip={"data", "validation", "run_dir", "resume"})
    network, space = "energy.init_args.network.init_args.", "energy.init_args.space.init_args."
    parser.link_arguments("data", network + "event_shape", _event_shape, apply_on="instantiate")
    parser.link_arguments("data", network + "num_outputs", _num_outputs, apply_on="instantiate")
    parser.link_arguments("data", "energy.init_args.num_labels", _num_outputs, apply_on="instantiate")
    parser.link_arguments("data", space + "shape", _event_shape, apply_on="instantiate")
    parser.link_arguments("data", space + "low", _low, apply_on="instantiate")
    parser.link_arguments("data", space + "high", _high, apply_on="instantiate")
    parser.link_arguments("data", "energy.init_args.visible.init_args.shape", _event_shape, apply_on="instantiate")
    parser.link_arguments("data", "energy.init_args.mean", _mean, apply_on="instantiate")
    return parser


def _event_shape(source: Source) -> tuple[int, ...]:
    return source.event_shape


def _num_outputs(source: Source) -> int:
    return source.num_classes or 1


def _low(source: Source) -> float:
    return source.low


def _high(source: Source) -> float:
    return source.high


def _mean(source: Source) -> Tensor | None:
    """Mean of the training rows; None where there is but their description, and weights come from a file."""
    return None if isinstance(source, Described) else source.splits().train.x.mean(0)


def parse(words: list[str]) -> Namespace:
    """Settings from the words of a command line: [RECIPE] [--option value ...].

    Raises:
        InputError: an option or value that does not fit, with the near miss.
    """
    parser = training_parser()
    try:
        config = parser.parse_args(expand(words))
    except ArgumentError as error:
        options = [action.dest for action in parser._actions]  # pyright: ignore[reportPrivateUsage]
        raise InputError(readable(str(error), options)) from error
    if config.get("scheduler.init_args.total_steps", 0) is None:
        # A schedule of unstated length (OneCycleLR) is as long as the run.
        config["scheduler.init_args.total_steps"] = config.num_steps
    for name in ("data.init_args.path", "data.init_args.source.init_args.path"):
        path = config.get(name)
        if path is not None and Path(path).exists():
            # The run will be evaluated from elsewhere too.
            config[name] = str(Path(path).resolve())
    return config


def build(config: Namespace) -> Built:
    """The objects of the settings; weights come from the run's seed, and no global stream is moved.

    Raises:
        InputError: a constructor refuses its arguments, or the data cannot be read.
    """
    parser = training_parser()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, "init"))
        try:
            made = parser.instantiate(config)
        except (ArgumentError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise _as_told(error) from error
    others = {"config", "out", "report", "data", "energy", "objective", "sampling"}
    names = [name for name in vars(made) if name not in others]
    return Built(made.data, made.energy, made.objective, made.sampling, {name: made[name] for name in names})


def _as_told(error: BaseException) -> EnergeiaError:
    """The error of ours beneath, as it was raised; of others, with their name."""
    beneath: BaseException | None = error
    while beneath is not None and not isinstance(beneath, EnergeiaError):
        beneath = beneath.__cause__ or beneath.__context__
    if isinstance(beneath, EnergeiaError):
        return beneath
    return InputError(f"the settings cannot be built: {type(error).__name__}: {' '.join(str(error).split())}")


def source_of(folder: Path, *, trust: bool) -> Source:
    """The data source of a run as its settings describe it; nothing is read.

    Raises:
        CheckpointError: as of `load`.
    """
    config = load(folder, trust=trust, with_data=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=Source, required=True)
    return parser.instantiate(Namespace(data=config.data)).data


def as_yaml(config: Namespace) -> str:
    """Every setting of the run."""
    return training_parser().dump(config, skip_unset=False, skip_link_targets=True)


def plain(config: Namespace) -> dict[str, Any]:
    """Every setting of the run as plain values."""
    return yaml.safe_load(as_yaml(config))


def save(folder: Path, config: Namespace, source: Source) -> None:
    """Write config.yaml, and data.yaml with what a model must know of its data."""
    (folder / CONFIG).write_text(as_yaml(config))
    about = {
        "event_shape": list(source.event_shape),
        "num_classes": source.num_classes,
        "low": source.low,
        "high": source.high,
        "as_images": source.as_images,
        "class_names": None if source.class_names is None else list(source.class_names),
    }
    (folder / DATA).write_text(yaml.safe_dump(about))


def load(folder: Path, *, trust: bool, with_data: bool) -> Namespace:
    """The settings of a run directory.

    Args:
        folder: the run directory.
        trust: also construct classes that are not of energeia or torch. Importing
            them runs their code: say so only of directories whose origin you know.
        with_data: False replaces the data by their description.

    Raises:
        CheckpointError: no run, or one that names classes of others without trust.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is no run directory: it has no {CONFIG}")
    values = _read(folder / CONFIG)
    foreign = foreign_names(values)
    if foreign and not trust:
        raise CheckpointError(
            f"{folder} names what is not of energeia or torch: {', '.join(foreign)}. Loading it runs its code; "
            "if you know where this run comes from, give --trust"
        )
    if not with_data:
        values["data"] = {"class_path": "energeia.data.Described", "init_args": _read(folder / DATA)}
    try:
        return training_parser().parse_object(values)
    except ArgumentError as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {' '.join(str(error).split())}") from error


def _read(path: Path) -> dict[str, Any]:
    """A YAML file that we wrote."""
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or "config" in values:
        raise CheckpointError(f"{path} does not hold the settings of a run")
    return values
