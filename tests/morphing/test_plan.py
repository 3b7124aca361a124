"""How settings are resolved: against brute force, closed forms and the numbers of float types."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphot_jax.maps.volume import Volume
from morphot_jax.morphing import plan as planning
from morphot_jax.morphing.plan import CPU_BYTES, anchor_bytes, gap, lane_bytes, make_plan, solve_window, spread
from morphot_jax.morphing.settings import Settings
from morphot_jax.transport.relaxation import PLAIN, automatic

DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)


def points(shape, *places, voxel_size=(2.0, 2.0, 2.0)):
    """A map that is 1 at the places and 0 elsewhere."""
    data = np.zeros(shape, np.float32)
    for place in places:
        data[place] = 1
    return Volume(data, voxel_size)


def pair(distance, **options):
    shape = (1, 1, distance + 1)
    return points(shape, (0, 0, 0), **options), points(shape, (0, 0, distance), **options)


def hausdorff(first, second, sigma):
    """The larger of both one-sided distances, every voxel with every voxel."""
    a, b = np.argwhere(first) / sigma, np.argwhere(second) / sigma
    distances = np.sqrt(((a[:, None] - b) ** 2).sum(axis=-1))
    return max(distances.min(axis=1).max(), distances.min(axis=0).max())


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    sigma=st.tuples(*[st.floats(0.2, 5.0)] * 3),
    share=st.sampled_from([0.05, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_gap_is_the_hausdorff_distance(shape, sigma, share, seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((2, *shape)) < share
    masks[0].flat[rng.integers(masks[0].size)] = masks[1].flat[rng.integers(masks[1].size)] = True
    expected = hausdorff(*masks, np.array(sigma))
    assert gap(list(masks), sigma) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert gap(list(masks[::-1]), sigma) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_gap_counts_in_sigma_along_each_axis():
    shape = (5, 5, 5)
    first = points(shape, (0, 0, 0)).data > 0
    for axis, sigma in product(range(3), [(1.0, 2.0, 4.0)]):
        second = np.roll(first, 4, axis=axis)
        assert gap([first, second], sigma) == pytest.approx(4 / sigma[axis])


def test_distance_of_a_sequence_is_that_of_its_farthest_neighbours():
    shape = (1, 1, 10)
    maps = tuple(points(shape, (0, 0, x)) for x in (0, 2, 9))
    assert make_plan(maps, 5, Settings(sigma=2.0)).distance == pytest.approx(3.5)


# reach: exp(-d^2 / 2) underflows at 37.6 sigma in double and 13.2 in single precision; half of that is safe.
@pytest.mark.parametrize(
    ("precision", "distance", "kernel"),
    [("double", 18, "dense"), ("double", 19, "log"), ("single", 6, "dense"), ("single", 7, "log")],
)
def test_kernel_is_chosen_by_how_far_the_maps_are_apart(precision, distance, kernel):
    plan = make_plan(pair(distance), 1, Settings(sigma=1.0, precision=precision))
    assert plan.kernel == kernel
    assert plan.distance == distance
    assert f"{distance:.1f} sigma" in plan.reasons["kernel"]


def test_larger_sigma_brings_maps_within_reach_of_dense():
    assert make_plan(pair(36), 1, Settings(sigma=2.0)).kernel == "dense"


@pytest.mark.parametrize("kernel", ["dense", "fft", "log", "truncated"])
def test_kernel_asked_for_is_taken(kernel):
    plan = make_plan(pair(40), 1, Settings(sigma=1.0, kernel=kernel))
    assert (plan.kernel, plan.reasons["kernel"]) == (kernel, "asked for")
    assert plan.guard == (1e-30 if kernel == "truncated" else None)
    assert len(plan.warnings) == (kernel in ("dense", "fft"))


@pytest.mark.parametrize(("distance", "warnings"), [(4, ()), (6, ("6.0 sigma apart", "fft is safe only to 5.0"))])
def test_kernel_of_short_range_is_warned_of_beforehand(distance, warnings):
    plan = make_plan(pair(distance), 1, Settings(sigma=1.0, kernel="fft"))
    assert len(plan.warnings) == bool(warnings)
    assert all(part in plan.warnings[0] for part in warnings)


def test_sigma_is_a_sixtieth_of_the_longest_axis_unless_given():
    volume = points((30, 90, 60), (0, 0, 0))
    plan = make_plan((volume, volume), 1, Settings())
    assert plan.sigma == (1.5, 1.5, 1.5)
    assert plan.reasons["sigma"] == "the longest axis / 60"
    blurred = make_plan((volume, volume), 1, Settings(method="barycenter"))
    assert "barycenters keep detail to about 5.1 Å" in blurred.reasons["sigma"]  # 1.7 x 1.5 voxels of 2 Å
    sharp = make_plan((volume, volume), 1, Settings(method="barycenter", debias=True))
    assert "detail" not in sharp.reasons["sigma"]


def test_sigma_in_voxels_is_the_same_along_every_axis():
    volume = points((3, 4, 5), (0, 0, 0), voxel_size=(1.0, 2.0, 4.0))
    assert make_plan((volume, volume), 1, Settings(sigma=0.7)).sigma == (0.7, 0.7, 0.7)


def test_sigma_in_angstrom_is_round_in_space_and_ordered_z_y_x():
    volume = points((3, 4, 5), (0, 0, 0), voxel_size=(1.0, 2.0, 4.0))
    plan = make_plan((volume, volume), 1, Settings(sigma_angstrom=4.0))
    assert plan.sigma == (1.0, 2.0, 4.0)
    assert plan.sigma == tuple(4.0 / edge for edge in volume.voxel_size[::-1])


@pytest.mark.parametrize(("precision", "dtype"), [("auto", DOUBLE), ("double", DOUBLE), ("single", SINGLE)])
def test_precision_decides_the_type_and_only_in_its_scope(precision, dtype):
    before = jax.config.jax_enable_x64
    plan = make_plan(pair(3), 1, Settings(sigma=1.0, precision=precision))
    assert plan.dtype == dtype
    with plan.scope():
        assert jnp.ones(3, plan.dtype).dtype == dtype
        assert jax.jit(lambda x: 2.0 * x)(jnp.ones(3, plan.dtype)).dtype == dtype
    assert jax.config.jax_enable_x64 == before


@pytest.mark.parametrize("fitting", [1, 2, 7])
def test_batch_honours_the_memory(fitting):
    volumes = pair(20)
    shared = anchor_bytes(volumes[0].shape, 100, None)
    memory = (fitting + 1) * lane_bytes(volumes[0].shape, 2, DOUBLE, None) - 1 + shared
    plan = make_plan(volumes, 100, Settings(sigma=1.0, memory=memory))
    assert plan.batch == fitting
    assert f"{fitting} frames fit" in plan.reasons["batch"]


def full(side):
    """A map with mass everywhere, so that the solve needs the whole box."""
    return Volume(np.ones((side, side, side), np.float32), (2.0, 2.0, 2.0))


@pytest.mark.parametrize("memory", [1, 100, 10**15])
@pytest.mark.parametrize("lanes", [1, 25])
@pytest.mark.parametrize("side", [4, 64])
def test_batch_is_at_least_one_and_at_most_the_lanes(memory, lanes, side):
    volume = full(side)
    batch = make_plan((volume, volume), lanes, Settings(memory=memory)).batch
    assert 1 <= batch <= lanes
    assert batch == 1 or batch * lane_bytes(volume.shape, 2, DOUBLE, None) <= memory


def test_batch_on_a_cpu_stays_within_its_caches(monkeypatch):
    monkeypatch.setattr(planning, "_platform", lambda: "cpu")
    volume = full(48)
    fields = lane_bytes(volume.shape, 2, DOUBLE, None)
    batch = make_plan((volume, volume), 1000, Settings(memory=10**15)).batch
    assert batch * fields <= CPU_BYTES < (batch + 1) * fields


def test_batch_on_an_accelerator_is_as_large_as_its_memory(monkeypatch):
    monkeypatch.setattr(planning, "_platform", lambda: "gpu")
    volume = full(32)
    memory = 300 * lane_bytes(volume.shape, 2, DOUBLE, None) + anchor_bytes(volume.shape, 1000, None)
    assert make_plan((volume, volume), 1000, Settings(memory=memory)).batch == 300


def test_batch_is_planned_for_the_part_of_the_box_that_is_solved(monkeypatch):
    """Two voxels in a large box: the frames need only their surroundings."""
    monkeypatch.setattr(planning, "_platform", lambda: "gpu")
    maps = points((64, 64, 64), (30, 30, 30)), points((64, 64, 64), (30, 30, 34))
    memory = 20 * lane_bytes((64, 64, 64), 2, DOUBLE, None)
    solved = tuple(
        part.stop - part.start for part in solve_window(np.stack([m.data for m in maps]), (1.0,) * 3, "dense")
    )
    assert solved == (11, 11, 15)  # 2.5 sigma and two voxels on either side
    batch = make_plan(maps, 10**6, Settings(sigma=1.0, memory=memory)).batch
    left = memory - anchor_bytes(solved, 10**6, None)
    assert batch == left // lane_bytes(solved, 2, DOUBLE, None)
    relaxed = 20 * lane_bytes((64, 64, 64), 2, DOUBLE, PLAIN)
    whole = make_plan(maps, 10**6, Settings(sigma=1.0, memory=relaxed, kernel="truncated")).batch
    assert whole == 20


def test_debiased_lanes_need_room_for_what_is_mixed():
    debiased, relaxed = (lane_bytes((4, 5, 6), 2, DOUBLE, PLAIN, debias=mixes) for mixes in (True, False))
    assert debiased >= relaxed + 2 * 120 * (2 * 8 + 10 * 4)


def test_many_frames_need_room_for_those_that_others_start_from():
    assert anchor_bytes((4, 5, 6), 14, None) == 7 * 120 * 4
    assert anchor_bytes((4, 5, 6), 13, None) == anchor_bytes((4, 5, 6), 100, PLAIN) == 0


@pytest.mark.parametrize(("asked", "lanes", "batch"), [(4, 25, 4), (40, 25, 25), (1, 25, 1)])
def test_batch_asked_for_is_taken(asked, lanes, batch):
    plan = make_plan(pair(3), lanes, Settings(sigma=1.0, batch=asked, memory=1))
    assert (plan.batch, plan.reasons["batch"]) == (batch, "asked for")


def test_lane_grows_with_its_box_its_maps_and_its_type():
    assert lane_bytes((4, 5, 6), 2, DOUBLE, PLAIN) == 2 * lane_bytes((4, 5, 6), 2, SINGLE, PLAIN)
    assert lane_bytes((8, 5, 6), 2, DOUBLE, None) == 2 * lane_bytes((4, 5, 6), 2, DOUBLE, None)
    fields = lane_bytes((1, 1, 1), 2, SINGLE, PLAIN) / 4
    assert lane_bytes((1, 1, 1), 3, SINGLE, PLAIN) / 4 > fields > 2 * 3  # maps, u and v of both at the least


def test_steps_are_multilevel_unless_a_relaxation_is_asked_for():
    assert make_plan(pair(3), 1, Settings(sigma=1.0)).relaxation is None
    chosen = make_plan(pair(3), 1, Settings(sigma=1.0, kernel="truncated"))  # the original's, with its guard
    fixed = make_plan(pair(3), 1, Settings(sigma=1.0, relaxation=1.3))
    assert chosen.relaxation == automatic(spread(pair(3)[0].data, (1.0, 1.0, 1.0)))
    assert (fixed.relaxation.w, fixed.relaxation.scale, fixed.relaxation.warmup) == (1.3, float("inf"), 0)


def test_spread_is_the_principal_standard_deviation_in_sigma():
    """A rod along a diagonal of a plane, in anisotropic sigma; equal maps of one voxel have none."""
    rng = np.random.default_rng(3)
    density = rng.random((5, 6, 7)) * (rng.random((5, 6, 7)) < 0.4)
    sigma = (0.5, 1.0, 2.0)
    places = np.argwhere(density) / np.array(sigma)
    covariance = np.cov(places.T, aweights=density[density > 0], ddof=0)
    assert spread(density, sigma) == pytest.approx(np.sqrt(np.linalg.eigvalsh(covariance).max()), rel=1e-9)
    assert spread(points((3, 3, 3), (1, 1, 1)).data, sigma) == 0.0


@pytest.mark.parametrize(("width", "w"), [(0.0, 1.0), (0.5, 1.0), (9.7, 1.85), (42 / 4, 1.861), (1e9, 2.0)])
def test_relaxation_grows_with_the_spread(width, w):
    """2 / (1 + pi / (4 s)), and never below the plain iteration."""
    assert automatic(width).w == pytest.approx(w, abs=1e-3)


def test_exact_iterations_go_before_the_most():
    assert make_plan(pair(3), 1, Settings(sigma=1.0, max_iterations=70)).iterations == 70
    assert make_plan(pair(3), 1, Settings(sigma=1.0, max_iterations=70, iterations=9)).iterations == 9


def test_wide_kernels_in_large_boxes_take_every_so_many_voxels():
    """By at least 1.5 sigma a node; not in small boxes, nor where something asks for all voxels."""

    def stride(n, **options):
        first, last = (points((n, n, n), (0, 0, 0), (n - 1, n - 1, n - k)) for k in (1, 2))
        return make_plan((first, last), 1, Settings(**{"method": "barycenter", "sigma": 3.2} | options)).stride

    assert stride(96) == 2
    assert stride(96, sigma=2.9) == stride(96, sigma=1.0) == stride(95) == 1
    assert stride(96, sigma=4.6) == 3
    assert stride(8, stride=3) == 3
    for option in ({"debias": True}, {"relaxation": 1.5}, {"iterations": 9}, {"precision": "single"}):
        assert stride(96, **option) == 1
    for option in ({"kernel": "fft"}, {"kernel": "truncated"}, {"method": "bridge"}):
        assert stride(96, **option) == 1


def test_the_fallback_of_a_strided_solve_takes_all_voxels():
    plan = make_plan(pair(3), 1, Settings(method="barycenter", sigma=1.0, stride=2))
    assert (plan.stride, plan.fallback, plan.fallen_back().stride) == (2, "log", 1)
    assert "takes all voxels" in plan.fallen_back().reasons["stride"]


def test_every_automatic_choice_has_a_reason():
    reasons = make_plan(pair(3), 1, Settings()).reasons
    assert set(reasons) == {"sigma", "kernel", "precision", "batch", "relaxation", "stride"}
    assert all(reason.strip() for reason in reasons.values())
