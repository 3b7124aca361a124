"""Barycenters of several maps with given weights, and loops: what ``morph`` makes of ``weights`` and ``loop``."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels, solve_barycenter, solve_unbalanced_barycenter
from morphot_jax.morphing.plan import make_plan
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.times import frame_times, labels_of, map_weights
from morphot_jax.morphing.trajectory import Kept, looped, morph
from morphot_jax.prepare.prepared import prepare_maps
from morphot_jax.system.errors import InputError
from shapes import blob, moments, volume_of

SHAPE = (11, 12, 14)
CENTRES = np.array([(5.0, 5.0, 4.0), (5.0, 7.0, 7.0), (6.0, 5.0, 9.0)])
MASSES = np.array([3.0, 5.0, 4.0])
ROWS = np.array([(0.2, 0.5, 0.3), (2.0, 1.0, 1.0), (0.0, 0.0, 1.0)])
SHARES = ROWS / ROWS.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def maps():
    return [volume_of(blob(SHAPE, centre, 1.1, 1e-5), mass) for centre, mass in zip(CENTRES, MASSES, strict=True)]


@pytest.fixture(scope="module")
def settings():
    return Settings(weights=ROWS, sigma=1.0)


@pytest.fixture(scope="module")
def weighted(maps, settings):
    return morph(maps, settings)


def test_mean_and_mass_of_a_barycenter_are_those_of_its_maps_by_weight(weighted):
    """The mean of the barycenter minimises sum_k w_k |x - x_k|^2; the scaled mass is sum_k w_k m_k."""
    assert weighted.complete
    assert weighted.settings.method == "barycenter"
    for density, share, frame in zip(weighted.densities, SHARES, weighted.frames, strict=True):
        mean, _ = moments(density)
        np.testing.assert_allclose(mean, share @ CENTRES, atol=0.02)  # blobs of 1.1 voxels are cut at the floor
        assert frame.mass == pytest.approx(share @ MASSES, rel=1e-6)


@pytest.mark.parametrize("debias", [False, True])
def test_frames_are_the_barycenters_of_the_solver(maps, settings, debias):
    found = morph(maps, replace(settings, debias=debias))
    plan = found.plan
    with plan.scope():
        kernel = kernels.make(plan.kernel, SHAPE, 1.0, plan.dtype)
        densities = jnp.asarray(np.stack([volume.data for volume in maps]), plan.dtype)
        direct = solve_barycenter(densities, jnp.asarray(SHARES), kernel, debias=debias)
    for density, value in zip(found.densities, np.asarray(direct.value), strict=True):
        scaled = value / value.sum() * density.sum()
        assert np.abs(density - scaled).sum() < 2e-6 * density.sum()


def test_two_maps_with_weights_are_the_frames_at_these_times(maps):
    times = (0.25, 0.6)
    by_time = morph(maps[:2], Settings(method="barycenter", sigma=1.0, times=times))
    by_weight = morph(maps[:2], Settings(sigma=1.0, weights=[(1 - t, t) for t in times]))
    assert np.array_equal(by_time.densities, by_weight.densities)


def test_the_order_of_the_maps_does_not_matter(maps, settings, weighted):
    order = [2, 0, 1]
    other = morph([maps[k] for k in order], replace(settings, weights=ROWS[:, order]))
    np.testing.assert_allclose(other.densities, weighted.densities, atol=1e-5 * weighted.densities.max())


def test_known_barycenters_are_not_solved_again(maps, settings, weighted):
    known = {1: Kept(weighted.frames[1], weighted.densities[1])}
    kept = []
    again = morph(maps, settings, known=known, keep=lambda frame, density: kept.append(frame.index))
    assert kept == [0, 2]
    assert np.array_equal(again.densities, weighted.densities)


def test_the_plan_sees_all_maps_at_once(maps, settings):
    """Neighbours are nearer to each other than the ends, and a barycenter of three needs more memory."""
    together, apart = make_plan(tuple(maps), 3, settings), make_plan(tuple(maps), 3, Settings(sigma=1.0))
    ends = make_plan((maps[0], maps[2]), 1, Settings(sigma=1.0))
    assert together.distance == max(apart.distance, ends.distance)
    assert together.extent >= apart.extent


def test_labels_are_weights_or_times():
    assert labels_of([0.0, 1.0], [(2.0, 1.0, 1.0), (0.1, 0.2, 0.7)]) == ["0.5 : 0.25 : 0.25", "0.1 : 0.2 : 0.7"]
    assert labels_of([0.25], None) == ["t = 0.25"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [(1, 1), (1, 1, 1)]}, "weights has rows of 2 and of 3: give one weight for each map"),
        ({"weights": [(0, 0)]}, "weights holds 0, 0: give some map more than 0"),
        ({"weights": [(1, -1)]}, "weights holds -1: give rows of numbers of at least 0"),
        ({"weights": (1, 1)}, "weights is (1, 1): give rows of numbers of at least 0"),
        ({"weights": []}, "weights is (): give rows of numbers of at least 0"),
        (
            {"weights": [(1, 1)], "method": "rigid"},
            "weights are given and the method is 'rigid': give barycenter, or leave it out",
        ),
        (
            {"weights": [(1, 1)], "times": (0.5,)},
            "weights and times are given: weights say which barycenters to make; give one of the two",
        ),
        ({"loop": True, "rate": "ramp-up"}, "rate is 'ramp-up' and a loop has no ends: leave out one of the two"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(InputError) as caught:
        Settings(**options)
    assert str(caught.value) == message


def test_weights_of_another_number_of_maps_are_refused(maps, settings):
    with pytest.raises(InputError, match="rows of 3 and 2 maps were given: give one weight for each map"):
        morph(maps[:2], settings)


@pytest.mark.parametrize("method", ["linear", "bridge"])
def test_a_loop_is_the_sequence_that_ends_with_the_first_map(maps, method):
    loop = morph(maps, Settings(method=method, sigma=1.0, frames=9, loop=True))
    assert [frame.time for frame in loop.frames] == pytest.approx([k / 9 for k in range(9)])
    times = tuple(frame.time for frame in loop.frames)
    sequence = morph([*maps, maps[0]], Settings(method=method, sigma=1.0, times=times))
    assert np.array_equal(loop.densities, sequence.densities)
    for k in range(3):
        np.testing.assert_array_equal(loop.densities[3 * k], maps[k].data)


def test_a_loop_closes_once(maps):
    prepared = prepare_maps(maps)
    once = looped(prepared)
    assert looped(once) is once
    assert once.masses == (*prepared.masses, prepared.masses[0])
    assert len(once.volumes) == 4


def test_weights_of_a_loop_return_to_the_first_map():
    settings = Settings(loop=True, frames=6)
    weights = map_weights(settings, frame_times(settings), 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights[5], [0, 0, 0.5, 0.5], atol=1e-12)


def test_unbalanced_barycenters_are_those_of_the_solver(maps):
    """Also with resumed frames; their masses are what the solve makes of those of the maps."""
    reach = 8.0  # Å, in voxels of 2 Å: four sigma
    found = morph(maps, Settings(weights=ROWS, sigma=1.0, unbalanced=reach))
    assert found.complete
    with found.plan.scope():
        kernel = kernels.make(found.plan.kernel, SHAPE, 1.0, found.plan.dtype)
        densities = jnp.asarray(np.stack([volume.data for volume in maps]), found.plan.dtype)
        direct = np.asarray(solve_unbalanced_barycenter(densities, jnp.asarray(SHARES), kernel, reach=4.0).value)
    np.testing.assert_allclose(found.densities, direct * MASSES.mean(), atol=3e-6 * found.densities.max())
    np.testing.assert_allclose(found.densities[2], maps[2].data, atol=1e-3 * maps[2].data.max())  # alone
    known = {0: Kept(found.frames[0], found.densities[0])}
    again = morph(maps, Settings(weights=ROWS, sigma=1.0, unbalanced=reach), known=known)
    assert np.array_equal(again.densities, found.densities)


def test_what_one_of_two_maps_lacks_counts_with_the_square_of_its_weight(maps):
    """This geometry blends the square roots of densities."""
    with_part = maps[0].data + 0.5 * blob(SHAPE, (8.0, 9.0, 11.0), 1.1, 1e-5).astype(np.float32)
    pair = [maps[0], maps[0].with_data(with_part)]
    found = morph(pair, Settings(method="barycenter", times=(0.25, 0.5), sigma=1.0, unbalanced=8.0))
    extra = [density.sum() - maps[0].mass for density in found.densities]
    np.testing.assert_allclose(np.array(extra) / (pair[1].mass - pair[0].mass), [0.0625, 0.25], atol=0.02)


@pytest.mark.parametrize(
    ("options", "end"),
    [({"debias": True}, "leave out debias"), ({"kernel": "truncated"}, "give another, or auto")],
)
def test_what_unbalanced_barycenters_do_not_have_is_refused(options, end):
    with pytest.raises(InputError, match=end):
        Settings(method="barycenter", unbalanced=8.0, **options)
