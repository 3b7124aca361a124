"""Trajectories: methods, times, masses, sequences, and that nothing depends on how the frames are batched."""

import inspect
import re
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest

from experiments.cases import build_case
from morphot_jax import displacement_field, kernels, order_maps
from morphot_jax.maps.mrc import read_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.progress import Progress
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Kept, blend, locate, morph
from morphot_jax.prepare.align import align_maps
from morphot_jax.prepare.preparation import Preparation
from morphot_jax.prepare.prepared import prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.transport.status import Status
from shapes import blob, moments, volume_of

SHAPE = (11, 12, 14)
QUICK = Settings(method="barycenter", frames=5, sigma=1.0)


@pytest.fixture(scope="module")
def maps():
    """Three bodies in a row, of masses 3, 5 and 4, on as many voxels each, so that pairs share compiled code."""
    places = [((5, 5, 4), 3.0), ((5, 6, 7), 5.0), ((6, 6, 9), 4.0)]
    return [volume_of(blob(SHAPE, centre, 1.1, 1e-5), mass) for centre, mass in places]


def test_linear_is_eq_2_1(maps):
    found = morph(maps[:2], Settings(method="linear", times=(0.0, 0.3, 1.0)))
    a, b = (volume.data for volume in maps[:2])
    assert np.array_equal(found.densities[0], a)
    assert np.array_equal(found.densities[2], b)
    np.testing.assert_allclose(found.densities[1], 0.7 * a + 0.3 * b, rtol=1e-6)
    assert found.plan is None
    assert found.complete


@pytest.mark.parametrize("method", ["linear", "barycenter", "mixed"])
def test_mass_is_interpolated(maps, method):
    found = morph(maps[:2], replace(QUICK, method=method))
    for frame, density in zip(found.frames, found.densities, strict=True):
        assert frame.mass == pytest.approx(density.sum(dtype=np.float64), rel=1e-12)
        assert frame.mass == pytest.approx(3.0 + 2.0 * frame.time, rel=1e-6)
        assert frame.status is Status.CONVERGED
    assert found.densities.dtype == np.float32
    assert found.densities.min() >= 0


def test_barycenter_moves_the_mass_where_linear_leaves_it(maps):
    """The centre of mass moves linearly for both; only the barycenter stays compact."""
    transported, blended = (
        morph(maps[:2], Settings(method=m, times=(0.5,), sigma=1.0)).densities[0] for m in ("barycenter", "linear")
    )
    (a, _), (b, _) = moments(maps[0].data), moments(maps[1].data)
    mean, variance = moments(transported)
    np.testing.assert_allclose(mean, (a + b) / 2, atol=2e-3)
    assert variance[2] < moments(blended)[1][2] - 1.0


def test_swapping_the_maps_runs_time_backwards(maps):
    there = morph(maps[:2], QUICK)
    back = morph(maps[1::-1], QUICK)
    np.testing.assert_allclose(there.densities, back.densities[::-1], atol=1e-10)


def test_frames_do_not_depend_on_the_batch(maps):
    reference = morph(maps[:2], replace(QUICK, frames=7, batch=7))
    for batch in (1, 2, 5, 100):
        found = morph(maps[:2], replace(QUICK, frames=7, batch=batch))
        np.testing.assert_allclose(found.densities, reference.densities, atol=1e-10)
        assert [f.iterations for f in found.frames] == [f.iterations for f in reference.frames]


def test_batches_share_one_compilation(maps, count_compilations):
    settings = replace(QUICK, frames=7, batch=3, sigma=0.9)
    morph(maps[:2], settings)
    with count_compilations() as again:
        morph(maps[:2], replace(settings, sigma=1.4, tolerance=1e-4, times=(0.11, 0.5, 0.77)))
    assert again.count == 0


def test_relaxations_share_one_compilation(maps, count_compilations):
    settings = replace(QUICK, frames=7, batch=3, sigma=0.9, relaxation=1.3)
    morph(maps[:2], settings)
    with count_compilations() as again:
        morph(maps[:2], replace(settings, sigma=1.4, relaxation=1.2))
    assert again.count == 0


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_frames_solved_on_every_other_voxel_are_those_on_all(maps, sigma):
    """The box is narrow, so sums over its nodes end abruptly: most frames are solved on from there."""
    settings = replace(QUICK, frames=7, sigma=sigma, tolerance=1e-7)
    whole = morph(maps[:2], settings)
    found, by_three = (morph(maps[:2], replace(settings, stride=2, batch=batch)) for batch in (7, 3))
    np.testing.assert_allclose(found.densities, whole.densities, atol=1e-6 * whole.densities.max())
    np.testing.assert_allclose(by_three.densities, found.densities, rtol=1e-6, atol=1e-9)
    assert found.complete
    assert found.plan.stride == 2
    polished = 0
    for frame, one in zip(found.frames, whole.frames, strict=True):
        errors = frame.history[:, 0]
        assert len(errors) == frame.iterations
        assert errors[-1] == frame.marginal_error <= settings.tolerance
        polished += frame.iterations > one.iterations
    assert polished


def test_many_barycenters_start_from_seven_of_them(maps):
    """The others take fewer iterations, and come out as alone and as where only they are wanted."""
    settings = replace(QUICK, frames=25, tolerance=1e-8)
    found, few = morph(maps[:2], settings), morph(maps[:2], replace(settings, times=(0.5, 4 / 12)))
    counts = sorted(frame.iterations for frame in found.frames[1:-1])
    assert counts[15] < 0.5 * counts[-7]
    np.testing.assert_allclose(found.densities[8], few.densities[1], atol=1e-6 * few.densities.max())
    known = {i: Kept(found.frames[i], found.densities[i]) for i in range(25) if i != 8}
    again = morph(maps[:2], settings, known=known)
    np.testing.assert_array_equal(again.densities, found.densities)


def test_a_sequence_passes_through_each_pair(maps):
    found = morph(maps, QUICK)
    assert [frame.time for frame in found.frames] == [0.0, 0.25, 0.5, 0.75, 1.0]
    first, second = (morph(pair, replace(QUICK, frames=3)) for pair in (maps[:2], maps[1:]))
    np.testing.assert_allclose(found.densities[:2], first.densities[:2], atol=1e-9)
    np.testing.assert_allclose(found.densities[2:], second.densities, atol=1e-9)
    assert [frame.mass for frame in found.frames] == pytest.approx([3.0, 4.0, 5.0, 4.5, 4.0], rel=1e-6)


def test_mixed_is_linear_between_keyframes(maps):
    keys = morph(maps[:2], replace(QUICK, frames=3))
    found = morph(maps[:2], replace(QUICK, method="mixed", keyframes=3, times=(0.0, 0.1, 0.5, 0.9, 1.0)))
    expected = [
        keys.densities[0],
        0.8 * keys.densities[0] + 0.2 * keys.densities[1],
        keys.densities[1],
        0.2 * keys.densities[1] + 0.8 * keys.densities[2],
        keys.densities[2],
    ]
    np.testing.assert_allclose(found.densities, expected, atol=1e-8)
    assert found.frames[1].marginal_error == max(keys.frames[0].marginal_error, keys.frames[1].marginal_error)


def test_locate_and_blend_hit_the_anchors():
    assert locate(0.0, 3) == (0, 0.0)
    assert locate(0.5, 3) == (1, 0.0)
    assert locate(1.0, 3) == (1, 1.0)
    anchors = np.arange(3, dtype=np.float32)[:, None, None, None] + np.zeros((3, 2, 2, 2), np.float32)
    values = blend(anchors, np.array([0.0, 0.25, 0.5, 1.0]))[:, 0, 0, 0]
    np.testing.assert_array_equal(values, [0.0, 0.5, 1.0, 2.0])


def test_original_mass_is_left_as_the_solve_made_it(maps):
    settings = Settings(
        times=(0.25,), sigma=0.6, kernel="truncated", iterations=4, relaxation=1.0, mass="original"
    )
    found = morph(maps[:2], settings)
    assert found.frames[0].status is Status.FIXED_ITERATIONS
    assert found.frames[0].mass < 4.0  # the mean of 3 and 5, less what four iterations leave behind


def test_golden_frame_of_the_original(shared_data):
    """The frame that the original tool shipped, from its own maps and settings."""
    maps = [read_volume(shared_data / f"mmcpn_{state}_64.mrc") for state in ("closed", "open")]
    settings = Settings(
        times=(0.5,), sigma=0.4, kernel="truncated", relaxation=1.0, iterations=20, mass="original"
    )
    found = morph(prepare_maps(maps, Preparation(level="none")), settings).densities[0].astype(np.float64)
    expected = read_volume(shared_data / "mmcpn_morphot_t050.mrc").data.astype(np.float64)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_single_precision_is_used_when_asked_for(maps):
    double, single = (
        morph(maps[:2], replace(QUICK, sigma=2.0, tolerance=1e-4, precision=p)) for p in ("double", "single")
    )
    assert single.plan.dtype == np.float32
    assert all(frame.status is Status.CONVERGED for frame in single.frames)
    np.testing.assert_allclose(single.densities, double.densities, atol=1e-3 * double.densities.max())
    assert not np.array_equal(single.densities, double.densities)


@pytest.mark.parametrize("enabled", [False, True])
def test_the_callers_precision_stays(maps, enabled):
    with jax.enable_x64(enabled):
        morph(maps[:2], replace(QUICK, frames=2))
        assert jax.config.jax_enable_x64 == enabled
        assert jax.numpy.ones(1).dtype == (np.float64 if enabled else np.float32)


def test_frames_keep_the_place_of_the_first_map(maps):
    volume = morph(maps[:2], replace(QUICK, frames=2, method="linear")).volume(1)
    assert (volume.voxel_size, volume.origin) == (maps[0].voxel_size, maps[0].origin)


def test_sigma_in_angstrom_equals_sigma_in_voxels(maps):
    voxels = morph(maps[:2], Settings(times=(0.5,), sigma=1.2))
    angstrom = morph(maps[:2], Settings(times=(0.5,), sigma_angstrom=2.4))
    np.testing.assert_allclose(angstrom.densities, voxels.densities, atol=1e-9)


def test_anisotropic_voxels_widen_the_right_axis():
    """A kernel of 2 Å on voxels of 1, 2, 4 Å (x, y, z) blurs by 2, 1, 1/2 voxels."""
    shape = (15, 17, 19)
    data = blob(shape, (7, 8, 9), 1.5, 1e-12).astype(np.float32)
    volume = Volume(data, (1.0, 2.0, 4.0))
    found = morph([volume, volume], Settings(method="barycenter", times=(0.0,), sigma_angstrom=2.0))
    before, after = moments(volume.data)[1], moments(found.densities[0])[1]
    index = np.arange(-20, 21)
    sampled = [np.average(index**2, weights=np.exp(-0.5 * (index / s) ** 2)) for s in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(after - before, sampled, rtol=5e-3)


def test_progress_is_reported_in_order(maps):
    seen: list[Progress] = []
    morph(maps, replace(QUICK, frames=5, sigma=0.5, batch=1), report=seen.append)
    assert seen
    assert all(progress.lanes == 5 for progress in seen)
    assert all(a.done <= b.done for a, b in pairwise(seen))
    assert all(progress.seconds_left is None or progress.seconds_left >= 0 for progress in seen)


def test_history_belongs_to_the_frame(maps):
    found = morph(maps[:2], replace(QUICK, batch=2))
    for frame in found.frames:
        assert frame.history.shape == (frame.iterations, 3)
        assert frame.history[-1, 0] == frame.marginal_error
        assert np.all(frame.history[:-1, 0] > found.settings.tolerance)


def test_one_map_is_refused(maps):
    with pytest.raises(InputError, match="1 map was given"):
        morph(maps[:1])


def test_far_maps_choose_the_log_kernel():
    shape = (3, 3, 90)
    maps = [volume_of(blob(shape, (1, 1, x), 0.6, 1e-3)) for x in (5, 85)]
    found = morph(maps, replace(QUICK, times=(0.5,)))
    assert found.plan.kernel == "log"
    assert found.frames[0].status is Status.CONVERGED
    mean, _ = moments(found.densities[0])
    assert mean[2] == pytest.approx(45.0, abs=1e-3)


@pytest.mark.slow
def test_a_solve_that_leaves_single_precision_goes_on_in_logs(shared_data):
    """The spliceosome at sigma 1: products underflow, though the kernel reaches across the maps."""
    case = build_case("spliceosome")
    settings = Settings(method="barycenter", sigma=1.0, times=(0.01,), max_iterations=60)
    double, single = (
        morph([case.first, case.last], replace(settings, precision=precision))
        for precision in ("double", "single")
    )
    assert (double.plan.kernel, single.plan.kernel) == ("dense", "dense")
    assert [warning for warning in single.warnings if "these were solved with log" in warning]
    assert single.complete
    difference = np.linalg.norm(single.densities - double.densities) / np.linalg.norm(double.densities)
    assert difference < 1e-5


def test_a_kernel_that_does_not_reach_is_replaced_with_a_warning(monkeypatch):
    """Dense at 80 sigma, as if its reach had been thought larger: infeasible, so log takes over."""
    monkeypatch.setattr(kernels, "SAFE", {"dense": 10.0})
    shape = (3, 3, 90)
    maps = [volume_of(blob(shape, (1, 1, x), 0.6, 1e-3)) for x in (5, 85)]
    found = morph(maps, replace(QUICK, times=(0.25, 0.5)))
    assert (found.plan.kernel, found.plan.fallback) == ("dense", "log")
    assert [frame.status for frame in found.frames] == [Status.CONVERGED] * 2
    assert [warning for warning in found.warnings if "dense did not reach in frames 0, 1: " in warning]
    np.testing.assert_allclose(moments(found.densities[1])[0][2], 45.0, atol=1e-3)
    asked = morph(maps, replace(QUICK, times=(0.5,), kernel="dense"))
    assert asked.frames[0].status is Status.INFEASIBLE  # an explicit kernel is not replaced
    assert not asked.complete


@pytest.mark.parametrize("method", ["barycenter", "mixed"])
def test_debiased_trajectories_begin_and_end_with_the_maps(maps, method):
    settings = replace(QUICK, method=method, debias=True, tolerance=1e-5, keyframes=3)
    sharp, blurred = morph(maps[:2], settings), morph(maps[:2], replace(settings, debias=False))
    prepared = prepare_maps(maps[:2]).volumes
    for index, volume in ((0, prepared[0]), (-1, prepared[1])):
        np.testing.assert_allclose(sharp.densities[index], volume.data, rtol=1e-5, atol=1e-9)
    assert sharp.complete
    assert [frame.bias for frame in blurred.frames] == [None] * 5
    assert all(0 <= frame.bias < 1e-3 for frame in sharp.frames)
    assert sharp.densities[2].max() > 1.05 * blurred.densities[2].max()
    for frame in sharp.frames:
        assert frame.mass == pytest.approx(3.0 + 2.0 * frame.time, rel=1e-6)


def test_auto_is_rigid_and_says_why(maps):
    found = morph(maps[:2], Settings(times=(0.5,), sigma=1.0))
    assert found.settings.method == "rigid"
    assert "nearest to morphs of atoms" in found.plan.reasons["method"]
    asked = morph(maps[:2], replace(QUICK, times=(0.5,)))
    assert asked.plan.reasons["method"] == "asked for"
    np.testing.assert_array_equal(
        found.densities, morph(maps[:2], Settings(method="rigid", times=(0.5,), sigma=1.0)).densities
    )


# As a value


def test_a_trajectory_is_a_sequence_of_its_frames_as_maps(maps):
    found = morph(maps[:2], Settings(method="linear", frames=4))
    assert len(found) == len(list(found)) == 4
    for index, volume in enumerate(found):
        for same in (volume, volume, found[index - 4], found.volume(index), found.volume(index - 4)):
            np.testing.assert_array_equal(same.data, found.densities[index])
            assert same.same_grid(maps[0])
    assert [volume.mass for volume in found[1:3]] == [found[1].mass, found[2].mass]
    assert found[4:] == ()
    np.testing.assert_array_equal(np.stack(found[::-1]), found.densities[::-1])


@pytest.mark.parametrize("index", [4, -5, 100])
def test_frames_that_are_not_there_raise_index_errors(maps, index):
    found = morph(maps[:2], Settings(method="linear", frames=4))
    for get in (found.__getitem__, found.volume):
        with pytest.raises(IndexError, match=f"there is no frame {index}: the trajectory has 4"):
            get(index)


def test_a_trajectory_can_be_morphed_along_again(maps):
    found = morph(maps[:2], Settings(method="linear", frames=3))
    again = morph(found, Settings(method="linear", frames=3))
    np.testing.assert_array_equal(again.densities, found.densities)


def test_a_trajectory_prints_one_line_with_its_worst_status(maps):
    found = morph(maps[:2], replace(QUICK, frames=3, max_iterations=3))
    assert str(Status.MAX_ITERATIONS) == f"{Status.MAX_ITERATIONS}" == "max_iterations"
    assert repr(found) == (
        f"Trajectory(3 frames by the method barycenter, shape={SHAPE}, worst status max_iterations)"
    )
    assert len(repr(found.frames[1]).splitlines()) == 1
    fixed = replace(found, frames=tuple(replace(frame, status=Status.FIXED_ITERATIONS) for frame in found.frames))
    assert repr(fixed).endswith("worst status fixed_iterations)")


def test_equal_frames_are_equal_whatever_their_history(maps):
    frames = morph(maps[:2], replace(QUICK, frames=3)).frames
    assert frames[1] == replace(frames[1], history=np.zeros((2, 3)))
    assert frames[1] != frames[2]


@pytest.mark.parametrize(
    "function", [morph, order_maps, displacement_field, prepare_maps, read_volume, align_maps]
)
def test_help_shows_no_lambdas(function):
    assert "lambda" not in str(inspect.signature(function))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "a.mrc",
            "morph needs two or more maps (Volume), and got the path 'a.mrc': read it with read_volume first",
        ),
        (["a.mrc", "b.mrc"], "and map 1 is the path 'a.mrc'"),
        (np.ones((3, 4)), "and got an array of shape (3, 4): a map has three axes, z y x"),
        ([np.ones((2, 2, 2), int)] * 2, "and map 1 is an array of shape (2, 2, 2): make a map of it with Volume("),
        (None, "and got None"),
    ],
)
def test_what_is_no_map_is_refused(unchecked, given, words):
    with pytest.raises(InputError, match=re.escape(words)) as error:
        morph(given)
    assert "\n" not in str(error.value)
