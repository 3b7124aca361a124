"""What is looked at of a trajectory: the same surfaces in the same places, whatever is cut off or made coarser."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.levels import enclosed, level_of_mass
from morphot_jax.show.scene import FACTORS, scene_of, volumes_along
from shapes import blob

MIDDLE = len(FACTORS) // 2
VOXEL, ORIGIN = (2.0, 3.0, 4.0), (-5.0, 7.0, 11.0)


def moving(count, shape=(30, 32, 34), sd=3.0):
    """Frames of a blob that goes along and swells, and their levels."""
    shares = np.linspace(0.0, 1.0, count)
    frames = np.stack([blob(shape, (10.13 + 8 * s, 15.29, 16.37), sd + s).astype(np.float32) for s in shares])
    return frames, shares, np.array([level_of_mass(frame) for frame in frames])


def made(frames, times, levels, **options):
    return scene_of(frames, times, levels, Volume(frames[0], VOXEL, ORIGIN), **options)


def centre_of(density, voxel_size, origin):
    """Centre of mass in Å along x, y, z."""
    places = np.indices(density.shape)[::-1].reshape(3, -1)
    return places @ density.ravel() / density.sum() * np.array(voxel_size) + np.array(origin)


@pytest.mark.parametrize("most", [10**9, 40_000, 6_000])
def test_what_is_shown_lies_where_it_was(most):
    frames, times, levels = moving(3)
    scene = made(frames, times, levels, most=most)
    assert scene.densities.size <= 1.6 * most
    for shown, frame in zip(scene.densities, frames, strict=True):
        kept = np.where(frame > 0.1 * frame.max(), frame, 0)
        seen = np.where(shown > 0.1 * shown.max(), shown, 0)
        offset = centre_of(seen, scene.voxel_size, scene.origin) - centre_of(kept, VOXEL, ORIGIN)
        assert np.all(np.abs(offset) < 0.05 * np.array(scene.voxel_size))


@pytest.mark.parametrize("edge", [1, 2, 3])
def test_coarser_scenes_have_the_mass_of_the_frames(edge):
    frames, times, levels = moving(2)
    scene = made(frames, times, levels, most=int(frames.size / 3 / edge**3))
    assert scene.coarsened >= edge
    mass = scene.densities[0].sum() * scene.coarsened**3 * levels[0]
    if scene.coarsened == 1:
        assert mass == pytest.approx(frames[0].sum(), rel=0.02)  # the faintest is cut off


def test_surfaces_lie_at_one_and_enclose_what_the_levels_do():
    frames, times, levels = moving(4)
    scene = made(frames, times, levels)
    assert scene.coarsened == 1
    np.testing.assert_allclose(scene.contours[:, MIDDLE], 1.0)
    for shown, frame, level in zip(scene.densities, frames, levels, strict=True):
        assert enclosed(shown, 1.0) == pytest.approx(enclosed(frame, level), abs=1)


def test_volumes_go_from_those_of_the_first_frame_to_those_of_the_last_at_every_factor():
    frames, times, levels = moving(5)
    volumes = volumes_along(frames, times, levels)
    for place in (0, -1):
        expected = [max(1, enclosed(frames[place], f * levels[place])) for f in FACTORS]
        np.testing.assert_allclose(volumes[place], expected, atol=1.0)
    assert np.all(np.diff(volumes, axis=1) <= 0)  # a higher level encloses less
    scene = made(frames, times, levels)
    assert np.all(np.diff(scene.contours, axis=1) >= 0)
    for k in (0, 4, 12):
        found = [enclosed(shown, c[k]) for shown, c in zip(scene.densities, scene.contours, strict=True)]
        np.testing.assert_allclose(found, volumes[:, k], rtol=0.02, atol=2)


def test_box_that_is_filled_to_its_sides_is_closed():
    scene = made(np.ones((2, 6, 5, 4), np.float32), np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    for axis in (1, 2, 3):
        assert scene.densities.take([0, -1], axis=axis).max() == 0.0


def test_radius_reaches_all_surfaces_and_hardly_more():
    frames, times, levels = moving(3)
    scene = made(frames, times, levels)
    places = np.argwhere((scene.densities >= 1).any(axis=0))[:, ::-1] * np.array(VOXEL) + np.array(scene.origin)
    farthest = np.linalg.norm(places - scene.centre, axis=1).max()
    assert farthest < scene.radius <= farthest + max(VOXEL)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99), most=st.sampled_from([5, 60, 10**6]))
@few(max_examples=40)
def test_any_frames_make_a_scene(shape, seed, most):
    rng = np.random.default_rng(seed)
    frames = (rng.random((2, *shape)) * (rng.random((2, *shape)) < 0.5)).astype(np.float32)
    scene = made(frames, np.array([0.0, 1.0]), np.array([level_of_mass(frame) for frame in frames]), most=most)
    assert np.isfinite(scene.densities).all()
    assert np.isfinite(scene.contours).all()
    assert np.isfinite(scene.radius)


def test_a_scene_prints_one_line():
    frames = np.stack([blob((9, 10, 11), (4, 5, 5), 1.5)] * 3).astype(np.float32)
    text = repr(scene_of(frames, np.linspace(0.0, 1.0, 3), np.full(3, 1e-3), Volume(frames[0], (1.0, 1.0, 1.0))))
    assert len(text.splitlines()) == 1
    assert "array" not in text


def test_single_frames_and_unsorted_times_make_a_scene():
    frames, _, levels = moving(3)
    assert made(frames[:1], np.array([0.3]), levels[:1]).densities.shape[0] == 1
    assert np.isfinite(made(frames, np.array([0.5, 0.0, 1.0]), levels).contours).all()
