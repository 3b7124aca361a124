"""Folders of maps: the maps of a series in their natural order, as cryoDRGN, RECOVAR and cryoSPARC write them."""

import re
from collections.abc import Sequence
from pathlib import Path

from morphot_jax.maps import databanks
from morphot_jax.system.errors import InputError
from morphot_jax.system.words import SAMPLE

MAPS = re.compile(r"\.(mrc|map|ccp4)(\.gz|\.bz2)?$")
NUMBERED = re.compile(r"vol_\d+\.")  # maps of a series, as cryoDRGN and a morph write them beside others


def expanded(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names with each folder replaced by the maps in it, and a sentence about each folder.

    Taken are the maps that lie in the folder itself; where there are none, those in the folders in it. Where some
    are called vol_0 and so on, those alone are. Numbers in names count as numbers: vol_2.mrc comes before
    vol_10.mrc. InputError for a folder without maps.
    """
    found, said = [], []
    for name in names:
        if name.startswith(SAMPLE) or databanks.is_entry(name) or not Path(name).is_dir():
            found.append(name)
            continue
        maps = _maps_in(Path(name))
        if not maps:
            raise InputError(f"'{name}' holds no maps (.mrc, .map, .ccp4): name maps, or a folder of them")
        found += map(str, maps)
        said.append(f"{name}: {len(maps)} maps, from {maps[0].relative_to(name)} to {maps[-1].relative_to(name)}")
    return found, said


def _maps_in(folder: Path) -> list[Path]:
    for places in (
        folder.iterdir(),
        (path for inner in folder.iterdir() if inner.is_dir() for path in inner.iterdir()),
    ):
        if maps := [path for path in places if MAPS.search(path.name) and path.is_file()]:
            maps = [path for path in maps if NUMBERED.match(path.name)] or maps
            return sorted(maps, key=lambda path: _natural(str(path.relative_to(folder))))
    return []


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which numbers are sorted as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
