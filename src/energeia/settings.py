"""A run as YAML: from recipe and options to objects, and back. jsonargparse does the work."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from energeia.core.energy import Energy
from energeia.core.errors import CheckpointError, InputError, check_count
from energeia.core.objective import Objective
from energeia.core.random import seed_of
from energeia.core.sampler import Sampler
from energeia.data import Source, Transform, source_class
from energeia.samplers import Langevin
from energeia.train import fit

CONFIG, DATA = "config.yaml", "data.yaml"
TRUSTED = ("energeia.", "torch.nn.", "torch.optim.")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn from the trained energy.

    Args:
        sampler: the transition.
        num_steps: steps from the space's start points.
    """

    sampler: Sampler = field(default_factory=lambda: Langevin(step_size=1e-2))
    num_steps: int = 1000

    def __post_init__(self) -> None:
        check_count("Sampling", num_steps=self.num_steps)


class Built(NamedTuple):
    """The objects of a run. fitting: the remaining arguments of `fit`."""

    source: Source
    energy: Energy
    objective: Objective
    sampling: Sampling
    fitting: dict[str, Any]


_ABOUT = """Train a model: energeia train [RECIPE or YAML file] [--option value ...]

Recipes: {recipes}. Without one, --data PATH picks "joint" if the
data has labels and "density" if it has none. Every class may be named with its import
path, also of your own modules in this directory: --energy.network my_module.MyNetwork.
Options of a class are dotted: --objective.weight 0.5. What the data decides (shapes, number
of outputs, bounds of the space) is filled in. --print_config shows every setting, and stops;
--energy.help Classifier, --objective.help Joint and so on tell what a class takes."""


def training_parser() -> ArgumentParser:
    """The parser of `energeia train`: data, sampling, transform and every argument of `fit`.

    What the data decides, it gives: shapes and number of outputs of the network, the
    shape and bounds of the space. Those are no options.
    """
    about = _ABOUT.format(recipes=", ".join(recipes()))
    parser = ArgumentParser("energeia train", description=about, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of settings; later options win")
    parser.add_argument("--out", type=str | None, default=None, help="new run directory; default runs/NAME-DATE-TIME")  # type: ignore[arg-type]
    parser.add_argument("--report", type=bool, default=True, help="evaluate and write the report at the end")
    parser.add_argument("--data", type=Source, required=True, help="a Source class, or the path of a .npz, .csv or .parquet file or of a folder of pictures")
    parser.add_argument("--transform", type=Transform | None, default=None, help="random changes of each batch")  # type: ignore[arg-type]
    parser.add_argument("--sampling", type=Sampling, default=Sampling(), help="how samples are drawn afterwards")
    parser.add_function_arguments(fit, skip={"data", "validation", "transform", "run_dir", "resume"})
    network, space = "energy.init_args.network.init_args.", "energy.init_args.space.init_args."
    parser.link_arguments("data", network + "event_shape", _event_shape, apply_on="instantiate")
    parser.link_arguments("data", network + "num_outputs", _num_outputs, apply_on="instantiate")
    parser.link_arguments("data", space + "shape", _event_shape, apply_on="instantiate")
    parser.link_arguments("data", space + "low", _low, apply_on="instantiate")
    parser.link_arguments("data", space + "high", _high, apply_on="instantiate")
    return parser


def _event_shape(source: Source) -> tuple[int, ...]:
    return source.event_shape


def _num_outputs(source: Source) -> int:
    return source.num_classes or 1


def _low(source: Source) -> float:
    return source.low


def _high(source: Source) -> float:
    return source.high


def recipes() -> dict[str, Path]:
    """The recipes that ship with the package, by name."""
    folder = Path(str(resources.files("energeia.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """The YAML file of a recipe by name, or of the user by path.

    Raises:
        InputError: there is neither, with the near miss.
    """
    known = recipes()
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    raise InputError(
        f"there is no recipe and no file {name!r}{_near(name, list(known))}; recipes: {', '.join(known)}; "
        "or give the path of a YAML file"
    )


def parse(arguments: list[str]) -> Namespace:
    """Settings from command line arguments: [RECIPE] [--option value ...].

    Raises:
        InputError: an option or value that does not fit, with the near miss.
    """
    parser = training_parser()
    try:
        return parser.parse_args(_expanded(arguments))
    except ArgumentError as error:
        raise InputError(_readable(parser, str(error))) from error


def run_name(arguments: list[str]) -> str:
    """What to call a run: its recipe, its YAML file or its data."""
    named = [word for word in arguments[:1] if not word.startswith("-")]
    return Path((named or ["run"])[0]).stem


def _expanded(arguments: list[str]) -> list[str]:
    """A leading recipe as --config, and a path given to --data as the source that reads it."""
    rest = list(arguments)
    expanded: list[str] = []
    if rest and not rest[0].startswith("-"):
        expanded += ["--config", str(recipe_path(rest.pop(0)))]
    elif not any(word.partition("=")[0] in ("--config", "--help", "-h") for word in rest):
        expanded += ["--config", str(recipe_path(_default_recipe(rest)))]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name != "--data" or not (equals or rest):
            expanded.append(word)
            continue
        value = value if equals else rest.pop(0)
        if _is_path(value):
            expanded += ["--data", source_class(value).__name__, "--data.path", value]
        else:
            expanded += ["--data", value]
    return expanded


def _default_recipe(arguments: list[str]) -> str:
    """The recipe for data alone: joint with labels, density without."""
    path = next((b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--data"), None)
    if path is None or not _is_path(path):
        raise InputError(f"give a recipe ({', '.join(recipes())}), a YAML file, or --data PATH")
    if any(word.startswith("--data.label") for word in arguments):
        return "joint"
    return "density" if source_class(path)(path).num_classes is None else "joint"


def _is_path(value: str) -> bool:
    return "/" in value or Path(value).suffix in (".npz", ".csv", ".parquet") or Path(value).exists()


def _readable(parser: ArgumentParser, message: str) -> str:
    """The message of jsonargparse with the near miss of a mistyped name."""
    owners = re.findall(r"class_path '([\w.]+)'", message)
    unknown = re.search(r"Option '(\w+)' is not accepted|unrecognized arguments: --([\w.]+)|[Kk]ey '?\"?(\w+)", message)
    if unknown is None:
        return message
    name = next(group for group in unknown.groups() if group)
    candidates = [action.dest for action in parser._actions]  # pyright: ignore[reportPrivateUsage]
    if unknown.group(1) and owners:
        module, _, kind = owners[-1].rpartition(".")
        candidates = list(inspect.signature(getattr(importlib.import_module(module), kind)).parameters)
    return " ".join(message.split()) + _near(name, candidates)


def _near(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def build(config: Namespace) -> Built:
    """The objects of the settings; weights come from the run's seed, and no global stream is moved."""
    parser = training_parser()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, "init"))
        made = parser.instantiate(config)
    names = [name for name in vars(made) if name not in ("config", "data", "energy", "objective", "sampling")]
    return Built(made.data, made.energy, made.objective, made.sampling, {name: made[name] for name in names})


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
    values = yaml.safe_load((folder / CONFIG).read_text())
    foreign = sorted({name for name in _class_paths(values) if not name.startswith(TRUSTED)})
    if foreign and not trust:
        raise CheckpointError(
            f"{folder} names classes of others: {', '.join(foreign)}. Loading them runs their code; "
            "if you know where this run comes from, give --trust"
        )
    if not with_data:
        about = yaml.safe_load((folder / DATA).read_text())
        values["data"] = {"class_path": "energeia.data.Described", "init_args": about}
    try:
        return training_parser().parse_object(values)
    except ArgumentError as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {' '.join(str(error).split())}") from error


def _class_paths(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        if isinstance(values.get("class_path"), str):
            yield values["class_path"]
        for value in values.values():
            yield from _class_paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from _class_paths(value)
