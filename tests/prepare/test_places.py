"""Where maps lie, and how large they are, when their headers do not say or say it wrongly."""

import re

import numpy as np
import pytest

from helpers import SHARED_DATA, morphot
from morphot_jax import Preparation, Volume, prepare_maps, read_volume
from morphot_jax.prepare.common_grid import radius_of_gyration
from shapes import balls, blob

POINTS = np.array([[0.0, 0.0, 0.0], [12.0, 3.0, -4.0], [-9.0, 10.0, 6.0], [4.0, -12.0, 9.0]])


def of_box(side, origin=(0.0, 0.0, 0.0)):
    """The same object in the middle of a box of any size, the voxel side // 2."""
    middle = np.full(3, 2.0 * (side // 2))
    made = balls(POINTS + middle, side, 2.0, 3.0, (0.0, 0.0, 0.0))
    return Volume(made.data, made.voxel_size, origin)


@pytest.mark.parametrize("sides", [(32, 24), (24, 32), (33, 24), (29, 36)])
def test_boxes_of_different_size_without_an_origin_are_named_and_can_be_laid_middle_on_middle(sides):
    first, second = map(of_box, sides)
    apart = abs(sides[0] // 2 - sides[1] // 2)
    told = prepare_maps([first, second]).warnings
    assert f"map 2 and map 1 have boxes of different size ({sides[1]} x" in told[0]
    assert f"with their middles {apart} voxels apart; --place centre" in told[0]
    prepared = prepare_maps([first, second], Preparation(place="centre"))
    assert not [text for text in prepared.warnings if "middles" in text]
    assert any("map 2: its middle laid on that of map 1, by (" in text for text in prepared.actions)
    a, b = (volume.data for volume in prepared.volumes)
    inside = b > 0
    np.testing.assert_allclose(b[inside], a[inside], atol=1e-6)
    assert b.sum() == pytest.approx(a.sum(), rel=0.02)


def test_what_says_where_it_lies_is_not_warned_of():
    placed = of_box(24, origin=(8.0, 8.0, 8.0))
    assert prepare_maps([of_box(32), placed]).warnings == ()
    assert prepare_maps([of_box(32), of_box(32)]).warnings == ()
    assert prepare_maps([of_box(32), of_box(24)], Preparation(align="translation")).warnings == ()


def test_a_middle_that_lies_there_already_stays():
    prepared = prepare_maps([of_box(24), of_box(24)], Preparation(place="centre", level="none"))
    assert prepared.actions == ()


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5, 1.2])
def test_a_wrong_voxel_size_is_named_by_its_factor(factor):
    right = of_box(32)
    wrong = Volume(right.data, tuple(factor * edge for edge in right.voxel_size))
    told = prepare_maps([right, wrong], Preparation(place="centre")).warnings
    (text,) = [text for text in told if "looks like map 1" in text]
    found = re.search(r"looks like map 1, ([\d.]+) times as large", text)
    assert float(found[1]) == pytest.approx(factor, rel=0.01)
    assert f"{2.0 * factor:g} Å was given, and 2 Å for map 1" in text


@pytest.mark.parametrize("change", ["compact", "longer", "blurred"])
def test_a_change_of_shape_is_not_taken_for_a_wrong_voxel_size(change):
    first = of_box(32)
    middle = np.full(3, 32.0)
    other = {
        "compact": lambda: balls(0.7 * POINTS + middle, 32, 2.0, 3.0, (0.0, 0.0, 0.0)),
        "longer": lambda: balls(POINTS * [1.6, 1.0, 1.0] + middle, 32, 2.0, 3.0, (0.0, 0.0, 0.0)),
        "blurred": lambda: balls(POINTS + middle, 32, 2.0, 4.2, (0.0, 0.0, 0.0)),
    }[change]()
    assert not [text for text in prepare_maps([first, other]).warnings if "looks like" in text]


def test_the_radius_of_gyration_of_a_gaussian():
    volume = Volume(blob((24, 26, 28), (12, 12, 13), (1.5, 2.0, 2.5), 0.0), (3.0, 2.0, 1.0))
    expected = np.sqrt((2.5 * 3.0) ** 2 + (2.0 * 2.0) ** 2 + (1.5 * 1.0) ** 2)
    assert radius_of_gyration(volume) == pytest.approx(expected, rel=1e-3)


def test_real_pairs_are_not_warned_of(shared_data):
    maps = [read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")]
    assert not [text for text in prepare_maps(maps).warnings if "looks like" in text or "middles" in text]


@pytest.mark.skipif(not (SHARED_DATA / "faults").is_dir(), reason="no faulty files here")
def test_one_object_in_two_boxes_stays_where_it_is(tmp_path):
    """The second was cut from the middle of the first; both say that they begin at zero."""
    boxes = [SHARED_DATA / "faults" / f"box_{side}.mrc" for side in (28, 20)]
    done = morphot("prepare", *boxes, "-o", tmp_path / "header")
    assert done.code == 0
    assert "with their middles 4 voxels apart; --place centre lays middle on middle" in done.err
    done = morphot("prepare", *boxes, "-o", tmp_path / "centre", "--place", "centre")
    assert done.code == 0
    a, b = (read_volume(path).data.astype(float) for path in sorted((tmp_path / "centre").glob("*.mrc")))
    index = np.indices(a.shape)
    centres = [np.array([np.average(axis, weights=data) for axis in index]) for data in (a, b)]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.15)  # voxels; the smaller box cuts tails


def test_single_voxels_have_no_size_to_compare():
    data = np.zeros((5, 6, 7))
    data[2, 3, 3] = 1.0
    point = Volume(data, (2.0, 2.0, 2.0))
    assert radius_of_gyration(point) == 0.0
    assert prepare_maps([point, point.with_data(np.roll(data, 2))]).warnings == ()
