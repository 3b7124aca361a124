"""Levels that enclose what they are to enclose, and volumes that do not flicker."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from morphot_jax import Settings, morph, prepare_maps
from morphot_jax.maps.samples import sample_volume
from morphot_jax.morphing.contours import frame_levels
from morphot_jax.prepare.levels import enclosed, level_of_mass, level_of_volume
from shapes import blob, volume_of


@given(seed=st.integers(0, 1000), voxels=st.integers(1, 60))
def test_a_level_encloses_so_many_voxels(seed, voxels):
    density = np.random.default_rng(seed).random((4, 5, 3)) + 0.01
    level = level_of_volume(density, voxels)
    assert enclosed(density, level) == voxels
    assert level > 0


@pytest.mark.parametrize(
    ("share", "level"), [(0.1, 4), (0.4, 4), (0.41, 3), (0.7, 3), (0.8, 2), (0.9, 2), (1.0, 1)]
)
def test_level_encloses_the_share_of_the_mass(share, level):
    values = np.array([0, 2, -9, 4, 1, 3, 0, 0], np.float32).reshape(2, 2, 2)  # 4, 7, 9, 10 of 10 from the top
    assert level_of_mass(values, share) == level


def test_level_of_nothing_is_zero():
    assert level_of_mass(np.zeros((2, 2, 2), np.float32), 0.8) == 0.0
    assert level_of_mass(np.full((2, 2, 2), -1, np.float32), 0.8) == 0.0


@few(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), share=st.floats(0.01, 0.99), more=st.floats(0.01, 0.99))
def test_level_is_the_highest_that_encloses_the_share_and_falls_with_it(seed, share, more):
    values = np.random.default_rng(seed).random((3, 3, 3), np.float32).astype(np.float64)
    level = level_of_mass(values, share)
    assert level in values
    assert values[values >= level].sum() >= share * values.sum() * (1 - 1e-12)
    assert values[values > level].sum() < share * values.sum() * (1 + 1e-12)
    low, high = sorted((share, more))
    assert level_of_mass(values, high) <= level_of_mass(values, low)


def test_nothing_is_enclosed_where_there_is_nothing():
    empty = np.zeros((3, 3, 3))
    assert level_of_mass(empty) == level_of_volume(empty, 5) == 0.0
    few = empty.copy()
    few[1, 1, 1] = 2.0
    assert enclosed(few, level_of_volume(few, 5)) == 1


@pytest.mark.parametrize("method", ["displacement", "barycenter", "linear"])
def test_volumes_go_evenly_from_map_to_map(method):
    shape = (20, 20, 20)
    # Off the voxels' own symmetry: voxels of one density could only be enclosed together.
    maps = [
        volume_of(blob(shape, (9.83, 10.21, x), sd, 1e-4)) for x, sd in ((7.13, 2.0), (10.1, 2.6), (12.3, 1.7))
    ]
    prepared = prepare_maps(maps)
    trajectory = morph(prepared, Settings(method=method, frames=9))
    levels = [level_of_mass(volume.data) for volume in prepared.volumes]
    times = np.array([frame.time for frame in trajectory.frames])
    data = [volume.data for volume in prepared.volumes]
    found, targets = frame_levels(trajectory.densities, trajectory.weights(3), data, levels)
    volumes = [enclosed(density, level) for density, level in zip(trajectory.densities, found, strict=True)]
    np.testing.assert_allclose(volumes, targets, atol=0.51)
    own = [enclosed(d, level) for d, level in zip(data, levels, strict=True)]
    np.testing.assert_allclose(targets, np.interp(times, [0.0, 0.5, 1.0], own))
    if method != "barycenter":
        assert volumes[0] == own[0]
        assert volumes[-1] == own[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmcpn", "adk"])
def test_volumes_of_the_samples_are_within_a_hundredth(name):
    prepared = prepare_maps([sample_volume(f"{name}-open"), sample_volume(f"{name}-closed")])
    trajectory = morph(prepared, Settings(frames=25))
    levels = [level_of_mass(volume.data) for volume in prepared.volumes]
    data = [volume.data for volume in prepared.volumes]
    found, targets = frame_levels(trajectory.densities, trajectory.weights(2), data, levels)
    volumes = np.array([enclosed(d, level) for d, level in zip(trajectory.densities, found, strict=True)])
    assert abs(volumes / targets - 1.0).max() < 0.01
