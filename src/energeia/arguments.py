"""What was typed after `energeia train`: recipes and paths spelled out, and errors in words."""

import difflib
import importlib
import inspect
import math
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import yaml

import energeia
from energeia import data
from energeia.core.errors import InputError
from energeia.data import Sequences, Table, source_class

GENERAL = ("joint", "density")
_DATA_SUFFIXES = (".npz", ".csv", ".parquet")


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
    if Path(name).is_dir() or Path(name).suffix in _DATA_SUFFIXES:
        raise InputError(f"{name} is data and no recipe: energeia train --data {name}")
    if Path(name).is_file():
        return Path(name)
    raise InputError(
        f"there is no recipe and no file {name!r}{near(name, known)}; recipes: {', '.join(known)}; "
        "or give the path of a YAML file"
    )


def run_name(words: list[str]) -> str:
    """What to call a run: its recipe, its YAML file or its data."""
    if words and not words[0].startswith("-"):
        return Path(words[0]).stem
    return Path(_value_of(words, "--data") or "run").stem


def expand(words: list[str]) -> list[str]:
    """A leading recipe as --config, and a path given to --data as the source that reads it."""
    rest, expanded = list(words), []
    options = {word.partition("=")[0] for word in rest}
    recipe = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if recipe is None and not any(o in ("--config", "--help", "-h") or o.endswith(".help") for o in options):
        recipe = _default_recipe(rest)
    if recipe is not None:
        expanded += ["--config", str(recipe_path(recipe))]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name != "--data" or not (equals or rest):
            expanded.append(word)
            continue
        value = value if equals else rest.pop(0)
        expanded += _source(value, recipe) if _is_path(value) else ["--data", value]
    return expanded


def _source(path: str, recipe: str | None) -> list[str]:
    """The source that reads a path; for a general recipe also what its kind of data needs."""
    if _reads_sequences(recipe):
        return ["--data.path", path]
    kind = source_class(path)
    words = ["--data", kind.__name__, "--data.path", path]
    if recipe not in GENERAL:
        return words
    # A label column is named by a later option; for an .npz file it makes no difference here.
    opened = kind(path) if kind is not Table or path.endswith(".npz") else None
    if opened is None or not math.isfinite(opened.low):
        scaled = [] if opened is not None and opened.as_images else ["--data.standardize", "true"]
        return [*words, *scaled, "--energy.space", "Real"]
    # Pictures are flat in most places: noise must stay in the box, and chains be cold enough to
    # follow data as narrow as it (step_size * temperature well below 4 scale^2).
    sampler = "--objective.negatives.sampler" if recipe == "joint" else "--objective.sampler"
    bounds = f"[{opened.low}, {opened.high}]"
    cold = [word for name in (sampler, "--sampling.sampler") for word in (f"{name}.temperature", "0.1")]
    return [*words, "--energy.space", "Box", "--transform.bounds", bounds, *cold]


def _reads_sequences(recipe: str | None) -> bool:
    """Whether the recipe's own data is a file of sequences, which no suffix tells from a table."""
    if recipe is None:
        return False
    try:
        data = yaml.safe_load(recipe_path(recipe).read_text()).get("data")
    except (AttributeError, UnicodeDecodeError, yaml.YAMLError):
        return False  # the parser of settings says what is wrong with it
    return isinstance(data, dict) and str(data.get("class_path")).rpartition(".")[2] == Sequences.__name__


def _default_recipe(words: list[str]) -> str:
    """The recipe for data alone: joint with labels, density without."""
    path = _value_of(words, "--data")
    if path is None or not _is_path(path):
        raise InputError(f"give a recipe ({', '.join(recipes())}), a YAML file, or --data PATH")
    labelled = any(word.startswith("--data.label") for word in words)
    return "joint" if labelled or source_class(path)(path).num_classes is not None else "density"


def _value_of(words: list[str], option: str) -> str | None:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == option:
            return following
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
    return None


def _is_path(value: str) -> bool:
    return "/" in value or Path(value).suffix in _DATA_SUFFIXES or Path(value).exists()


def readable(message: str, options: Iterable[str]) -> str:
    """The message of jsonargparse in one sentence, with the near miss of a mistyped name.

    Args:
        message: as it came, nested by lines.
        options: the dotted names of all top options.
    """
    where = ".".join(re.findall(r'Parser key "([\w.]+)"', message))
    owner = (re.findall(r"class_path[ =]'([\w.]+)'", message) or [""])[-1]
    if found := re.search(r"Option '([\w.]+)' is not accepted", message):
        name = found.group(1)
        candidates = _parameters(owner) if owner else options
        return f"{_at(where)}there is no option {name!r}{f' in {owner}' if owner else ''}{near(name, candidates)}"
    if found := re.search(r"Group '([\w.]+)' does not accept option '(\w+)'", message):
        name = ".".join(found.groups())
        return f"there is no option {name!r}{near(name, options)}"
    if found := re.search(r"unrecognized arguments: --([\w.]+)", message):
        name = found.group(1)
        return f"there is no option --{name}{near(name, options)}"
    if where and (found := re.search(r"arguments are required: (\w+)", message)):
        name = f"{where}.{found.group(1)}"
        return f"{name} is missing{_of(owner)}; give it: --{name} VALUE"
    if found := re.search(r"import path string: ([\w.]+)", message):
        name = found.group(1)
        return (
            f"{_at(where)}there is no class {name!r}{near(name, [*vars(energeia), *vars(data)])}; a class of your own "
            "is named with its module, as my_module.MyClass"
        )
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        module, name = found.groups()
        return f"{_at(where)}there is no {name!r} in {module}{near(name, vars(importlib.import_module(module)))}"
    lines = [line.strip() for line in message.splitlines()]
    told = next((line[2:] for line in lines if line.startswith("- ")), lines[-1]) if where else " ".join(lines)
    plain = re.sub(r"\b(typing|collections\.abc)\.", "", re.sub(r"<class '([\w.]+)'>", r"\1", told))
    return f"{_at(where)}{plain}"


def near(name: str, candidates: Iterable[str]) -> str:
    """A question after the candidate that is meant, or nothing."""
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _of(owner: str) -> str:
    return f", which {owner} needs" if owner else ""


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _parameters(class_path: str) -> list[str]:
    module, _, kind = class_path.rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), kind)).parameters)
