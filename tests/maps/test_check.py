"""A value that is not a map is refused in one sentence that quotes it and says what to do."""

import re
from pathlib import Path

import numpy as np
import pytest

from morphot_jax import Settings, Volume, morph, prepare_maps
from morphot_jax.maps.check import one_map, several_maps
from morphot_jax.system.errors import InputError
from shapes import volume_of

MAP = volume_of(np.ones((2, 3, 4)))


@pytest.mark.parametrize("scale", [1e300, 1e31, 1e-31, 1e-300])
def test_densities_that_frames_cannot_hold_are_refused(scale):
    """Frames of a map of 1e300 were infinite once, those of 1e-300 zero, and both said 'converged'."""
    given = Volume(np.full((2, 3, 4), scale), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"map 1 has the maximum 1e.*, and frames hold 1e-30 to 1e\+30: scale"):
        prepare_maps([given, given])
    for sound in (1e29, 1e-29):
        prepared = prepare_maps([given.with_data(given.data / scale * sound)] * 2)
        assert morph(prepared, Settings(method="linear", times=(0.5,))).densities.max() == pytest.approx(sound)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a.mrc", "and got the path 'a.mrc': read it with read_volume first"),
        (Path("a.mrc"), "and got the path 'a.mrc': read it with read_volume first"),
        (None, "and got None: read a map with read_volume"),
        (MAP.data, "and got an array of shape (2, 3, 4): make a map of it with Volume(array, voxel_size)"),
        (MAP.data[0], "and got an array of shape (3, 4): a map has three axes, z y x"),
        ([MAP], "and got a list: give what read_volume returns"),
        (3, "and got an int: give what read_volume returns"),
    ],
)
def test_one_map_is_a_volume(given, words):
    with pytest.raises(InputError, match=rf"^this needs a map \(Volume\), {re.escape(words)}[^\n]*$"):
        one_map(given, "this needs a map")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a.mrc", "and got the path 'a.mrc': read it"),
        (b"a.mrc", "and got a bytes: give what"),
        (None, "and got None: read a map"),
        (MAP, "and got a single one: give a list of them"),
        (np.ones((2, 3, 4, 5)), "and got an array of shape (2, 3, 4, 5): a map has three axes"),
        ({"a": MAP}, "and got a dict: give what"),
        ([MAP, "b.mrc"], "and map 2 is the path 'b.mrc': read it"),
        ([MAP.data[0]], "and map 1 is an array of shape (3, 4): a map has three axes"),
        ([MAP, None], "and map 2 is None: read a map"),
        ([[MAP]], "and map 1 is a list: give what"),
    ],
)
def test_several_maps_are_volumes(given, words):
    with pytest.raises(InputError, match=rf"^this needs maps \(Volume\), {re.escape(words)}[^\n]*$"):
        several_maps(given, "this needs maps")


def test_maps_come_in_anything_that_can_be_gone_through():
    assert one_map(MAP, "") is MAP
    for given in ([MAP, MAP], (MAP, MAP), iter([MAP, MAP]), {"a": MAP, "b": MAP}.values()):
        assert several_maps(given, "") == (MAP, MAP)
