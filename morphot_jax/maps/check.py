"""Checks of maps that users pass in: they must be maps, and usable ones."""

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from morphot_jax.maps.resample import triple_text
from morphot_jax.maps.volume import Volume
from morphot_jax.system.errors import InputError

SMALLEST, LARGEST = 1e-30, 1e30  # of a map's maximum, a few digits inside of what single precision holds


def one_map(given: object, needs: str) -> Volume:
    """Return ``given`` if it is a map; raise InputError for anything else.

    ``needs`` begins the message, as in "align_maps needs a map to move".
    """
    if isinstance(given, Volume):
        return given
    what, advice = _described(given)
    raise InputError(f"{needs} (Volume), and got {what}: {advice}")


def several_maps(given: object, needs: str) -> tuple[Volume, ...]:
    """Return the maps of a list or another iterable; raise InputError if one of them is not a map.

    ``needs`` begins the message, as in "morph needs two or more maps".
    """
    if isinstance(given, Volume):
        raise InputError(f"{needs} (Volume), and got a single one: give a list of them")
    not_a_list = isinstance(given, str | bytes | Mapping) or hasattr(given, "__array__")
    if not_a_list or not isinstance(given, Iterable):
        what, advice = _described(given)
        raise InputError(f"{needs} (Volume), and got {what}: {advice}")
    maps = []
    for number, value in enumerate(given, start=1):
        if not isinstance(value, Volume):
            what, advice = _described(value)
            raise InputError(f"{needs} (Volume), and map {number} is {what}: {advice}")
        maps.append(value)
    return tuple(maps)


def check_map(volume: Volume, label: str) -> None:
    """Raise InputError, quoting ``label``, for a map with oblique axes or without positive density.

    Frames are in single precision, so the largest density must be well inside of its range, too.
    """
    if not volume.orthogonal:
        raise InputError(
            f"{label} has cell angles {triple_text(volume.cell_angles)}°: give a map whose angles are 90°"
        )
    if not (top := volume.data.max()) > 0:
        raise InputError(
            f"{label} has no positive density (its maximum is {top:g}): check the file and its contrast"
        )
    if not SMALLEST < top < LARGEST:
        raise InputError(
            f"{label} has the maximum {top:g}, and frames hold {SMALLEST:g} to {LARGEST:g}: scale its densities"
        )


def _described(given: Any) -> tuple[str, str]:
    """Describe a value that is not a map, and say what to give instead."""
    if given is None:
        return "None", "read a map with read_volume, or make one with Volume(array, voxel_size)"
    if isinstance(given, str | PathLike):
        return f"the path '{given}'", "read it with read_volume first"
    if hasattr(given, "__array__") and hasattr(given, "shape"):
        what = f"an array of shape {tuple(given.shape)}"
        if len(given.shape) == 3:
            return what, "make a map of it with Volume(array, voxel_size)"
        return what, "a map has three axes, z y x; make it with Volume(array, voxel_size)"
    name = type(given).__name__
    what = f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
    if hasattr(given, "volumes"):
        return what, "give one or more of its volumes"
    return what, "give what read_volume returns, or Volume(array, voxel_size)"
