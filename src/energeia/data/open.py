"""Which source reads a path."""

from pathlib import Path

from energeia.core.errors import InputError
from energeia.data.image import ImageFolder
from energeia.data.table import TABLE_SUFFIXES, Table


def source_class(path: str) -> type[Table] | type[ImageFolder]:
    """`Table` for .npz, .csv and .parquet files, `ImageFolder` for a folder; both take the path first.

    Raises:
        InputError: no such path, or a kind of file that is not supported.

    Example:
        >>> source_class("points.csv")
        Traceback (most recent call last):
        energeia.core.errors.InputError: points.csv: there is no such file or folder
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"{path}: there is no such file or folder")
    if place.is_dir():
        return ImageFolder
    if place.suffix.lower() in TABLE_SUFFIXES:
        return Table
    raise InputError(
        f"{path}: files that end in {place.suffix or 'nothing'} are not supported; give a table "
        f"({', '.join(TABLE_SUFFIXES)}) or a folder of pictures"
    )
