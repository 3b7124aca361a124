"""Morphs inside a region: ends, mass, empty walls, the way around, and what is refused."""

import numpy as np
import pytest

from morphot_jax import InputError, Settings, Volume, morph, prepare_maps
from morphot_jax.morphing.walls import enclosed
from shapes import blob, volume_of

SHAPE = (9, 20, 20)
LEFT, RIGHT = (4, 4, 4), (4, 4, 15)
SETTINGS = Settings(times=(0.0, 0.25, 0.5, 0.75, 1.0), sigma=1.0)


def tube() -> np.ndarray:
    """A U-shaped tube of five voxels across."""
    inside = np.zeros(SHAPE)
    inside[2:7, 2:18, 2:7] = inside[2:7, 2:18, 13:18] = inside[2:7, 12:18, 2:18] = 1.0
    return inside


def maps(floor=0.05):
    """A ball at either end of the tube; their densities come to one voxel from the walls."""
    return [volume_of(blob(SHAPE, centre, 1.0, floor), mass) for centre, mass in ((LEFT, 3.0), (RIGHT, 5.0))]


@pytest.fixture(scope="module")
def around():
    return morph(maps(), SETTINGS, region=volume_of(tube()))


def test_mass_stays_inside_and_goes_around(around):
    assert around.settings.method == "bridge"
    assert around.complete
    assert around.densities.min() >= 0
    assert np.all(around.densities[:, tube() == 0] == 0)
    np.testing.assert_allclose([frame.mass for frame in around.frames], [3.0, 3.5, 4.0, 4.5, 5.0], rtol=1e-5)
    for end, volume in zip((0, -1), maps(), strict=True):
        np.testing.assert_allclose(around.densities[end], volume.data, rtol=1e-6)
    y = [(density * np.indices(SHAPE)[1]).sum() / density.sum() for density in around.densities]
    assert y[2] > 11.5


def test_without_walls_mass_goes_straight_across(around):
    (middle,) = morph(maps(), Settings(times=(0.5,), sigma=1.0, method="bridge")).densities
    assert abs((middle * np.indices(SHAPE)[1]).sum() / middle.sum() - 4.0) < 0.1
    assert middle[tube() == 0].sum() > 0.5 * middle.sum()


def test_there_are_steps_for_the_longest_way(around):
    longest = around.walls.longest
    assert around.plan.steps == longest
    assert 30 < longest < 45
    assert f"walks of {longest} steps" in around.plan.reasons["kernel"]


def test_a_region_that_holds_everything_hardly_changes_the_bridge():
    first, last = (volume_of(blob((14, 13, 15), (6, 6, x), 1.5, 1e-3)) for x in (6, 8))
    inside = first.with_data(np.ones(first.shape))
    wide = Settings(times=(0.5,), sigma=1.0, method="bridge")
    walled, free = (morph([first, last], wide, **given).densities[0] for given in ({"region": inside}, {}))
    assert np.abs(walled - free).sum() < 0.02 * free.sum()


def test_what_lies_outside_is_removed_and_said():
    prepared = prepare_maps(maps(floor=1e-2))
    cut, walls = enclosed(prepared, volume_of(tube()))
    assert np.all(cut.volumes[0].data[~walls.inside] == 0)
    assert cut.masses == tuple(volume.mass for volume in cut.volumes)
    assert 0.99 < cut.masses[0] / prepared.masses[0] < 1.0
    assert [text for text in cut.actions if "outside the region: removed" in text] == list(cut.actions[-2:])


def test_the_piece_with_most_of_the_mass_counts():
    region = tube()
    region[:, 10, :] = 0.0  # the ends of the tube are cut off from one another
    one, other = (volume_of(blob(SHAPE, LEFT, sd, 0.05)) for sd in (0.8, 1.0))
    _, walls = enclosed(prepare_maps([one, other]), one.with_data(region))
    assert not walls.inside[4, 4, 15]
    assert walls.inside[4, 4, 4]
    with pytest.raises(InputError, match=r"lies outside the region .mass cannot pass between its 3 pieces"):
        morph(maps(), SETTINGS, region=volume_of(region))


def test_a_region_may_have_a_grid_of_its_own(around):
    grid = volume_of(tube())
    wide = np.pad(tube(), 2)
    x, y, z = (place - 2 * edge for place, edge in zip(grid.origin, grid.voxel_size, strict=True))
    padded = Volume(wide.astype(np.float32), grid.voxel_size, (x, y, z))
    again = morph(maps(), SETTINGS, region=padded)
    np.testing.assert_array_equal(again.densities, around.densities)


@pytest.mark.parametrize(
    ("settings", "region", "message"),
    [
        (Settings(method="rigid"), tube(), "a region does not go with the method 'rigid', whose mass leaves it"),
        (Settings(kernel="dense", method="displacement"), tube(), "does not go with the method 'displacement'"),
        (Settings(unbalanced=10.0), tube(), "unbalanced is 10 Å and a region is given: leave out one"),
        (SETTINGS, np.zeros(SHAPE), "the region has no voxels on the grid of the maps"),
        (SETTINGS, 3.0 * tube(), "the region has values from 0 to 3: a mask goes from 0 to 1"),
    ],
)
def test_what_no_region_goes_with_is_refused(settings, region, message):
    with pytest.raises(InputError, match=message):
        morph(maps(), settings, region=volume_of(region))
