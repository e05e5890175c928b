"""Which classes a run directory may construct: by default, only those that this package or torch brings."""

import importlib
import re
from collections.abc import Iterator
from typing import Any

_OWN = ("energeia.", "torch.nn.", "torch.optim.")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def foreign_names(values: dict[str, Any]) -> list[str]:
    """What the settings name that is not of energeia or torch; none of it is imported to find out.

    Args:
        values: settings as plain values, as read from YAML.

    Anything that could be an import path counts, wherever it stands: settings that
    we wrote name a class in full and nothing else that looks like one.
    """
    found = set(_import_paths({name: part for name, part in values.items() if name != "data"}))
    data = values.get("data")
    if isinstance(data, dict) and str(data.get("class_path")).startswith("energeia.data."):
        # The arguments of our sources are plain values: data.csv is a file.
        found |= {data["class_path"], *_import_paths(data.get("init_args"), text=False)}
    else:
        found |= set(_import_paths(data))
    return sorted(name for name in found if not _is_own_class(name))


def _import_paths(value: Any, *, text: bool = True) -> Iterator[str]:
    """Every class_path and, with `text`, every other string of dotted names."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from [str(part)] if name == "class_path" else _import_paths(part, text=text)
    elif isinstance(value, list):
        for part in value:
            yield from _import_paths(part, text=text)
    elif text and isinstance(value, str) and _IMPORT_PATH.fullmatch(value.strip()):
        yield value.strip()


def _is_own_class(name: str) -> bool:
    """Whether a name leads to a class that its module did not itself get from elsewhere."""
    if not name.startswith(_OWN):
        return False
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), kind, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__.startswith(tuple(own.rstrip(".") for own in _OWN))
