"""Bridges and displacement: mass at every t, ends, closed forms, symmetry, and what the frames are made of."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax import kernels
from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import bounding_box, widened
from morphot_jax.morphing.field import displacement_field
from morphot_jax.morphing.progress import Progress
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import morph
from morphot_jax.prepare.prepared import prepare_maps
from morphot_jax.system.errors import InputError
from morphot_jax.transport.bridge import bridge_frames
from morphot_jax.transport.displacement import Paths, barycentric_map, displacement_frames, paths_of, splat
from morphot_jax.transport.sinkhorn import solve_sinkhorn
from morphot_jax.transport.status import Status
from morphot_jax.transport.support import side_of
from shapes import blob, moments, scatter

TIMES = (0.001, 0.01, 0.5, 0.99)


def solved(a, b, sigma, kind="heat", tolerance=1e-9):
    kernel = kernels.make(kind, a.shape, sigma)
    return solve_sinkhorn(jnp.asarray(a), jnp.asarray(b), kernel, tolerance=tolerance, max_iterations=5000), kernel


def displaced(a, b, sigma, times, kind="heat"):
    coupling, kernel = solved(a, b, sigma, kind)
    paths = paths_of(side_of(a), side_of(b), coupling.potentials[0], coupling.potentials[1], kernel, sigma)
    return displacement_frames(paths, jnp.asarray(times), sigma, a.shape)


def bridged(a, b, sigma, times):
    coupling, _ = solved(a, b, sigma)
    return bridge_frames(coupling.potentials[0], coupling.potentials[1], sigma, jnp.asarray(times))


@pytest.fixture
def bodies():
    """Two shapes well inside their box."""
    shape = (26, 24, 30)
    a = blob(shape, (12, 11, 10), 1.4, 1e-3) + blob(shape, (12, 13, 14), 1.1, 1e-3)
    b = blob(shape, (12, 11, 10), 1.4, 1e-3) + blob(shape, (14, 10, 17), 1.1, 1e-3)
    return a / a.sum(), b / b.sum()


@pytest.mark.parametrize("frames_of", [bridged, displaced])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_mass_is_exact_at_every_t(double, bodies, frames_of, sigma):
    frames = np.asarray(frames_of(*bodies, sigma, TIMES))
    np.testing.assert_allclose(frames.sum(axis=(1, 2, 3)), 1.0, atol=1e-9 if sigma < 2 else 2e-8)
    assert frames.min() >= 0


def test_bridge_ends_are_the_maps(double, bodies):
    frames = np.asarray(bridged(*bodies, 1.0, (0.0, 1.0)))
    for frame, data in zip(frames, bodies, strict=True):
        assert np.linalg.norm(frame - data) < 1e-8 * np.linalg.norm(data)
    assert np.linalg.norm(frames[0] - bodies[0]) < 1e-13 * np.linalg.norm(bodies[0])


@pytest.mark.parametrize("frames_of", [bridged, displaced])
def test_frames_run_smoothly_into_the_maps(double, bodies, frames_of):
    """No jump at the ends, however close: what fails for sampled Gaussians."""
    frames = np.asarray(frames_of(*bodies, 1.0, (1e-6, 1e-3)))
    distances = [np.abs(frame - bodies[0]).sum() for frame in frames]
    assert distances[0] < 2e-5
    assert distances[1] < 2e-2


@pytest.mark.parametrize("frames_of", [bridged, displaced])
def test_swapping_the_maps_runs_time_backwards(double, bodies, frames_of):
    there = frames_of(*bodies, 1.0, (0.2, 0.7))
    back = frames_of(*bodies[::-1], 1.0, (0.8, 0.3))
    np.testing.assert_allclose(there, back, atol=1e-8)


def test_bridge_is_the_law_of_the_conditioned_walk(double):
    """rho_t(z) = sum_xy P(x, y) H_ts(x, z) H_(1-t)s(z, y) / H_s(x, y), from the dense plan."""
    shape, sigma, t = (1, 1, 12), 0.8, 0.3
    a, b = np.zeros(shape), np.zeros(shape)
    a[0, 0, 4:8], b[0, 0, 5:10] = (0.1, 0.4, 0.3, 0.2), (0.3, 0.1, 0.2, 0.3, 0.1)
    coupling, _ = solved(a, b, sigma)
    parts = [kernels.heat(shape, sigma * np.sqrt(share)) for share in (t, 1 - t)]
    edges = float(parts[0].z[0, 0] * parts[1].z[0, 0])
    first, second = (np.asarray(part.x) for part in parts)
    u, v = (np.exp(np.asarray(field)).ravel() for field in (coupling.potentials[0], coupling.potentials[1]))
    expected = np.einsum("x,xz,zy,y->z", u, first, second, v) * edges**2  # from the axes that are one voxel long
    found = bridge_frames(coupling.potentials[0], coupling.potentials[1], sigma, jnp.array([t]))
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_bridge_between_gaussians_has_the_closed_form(double, t):
    """Equal variances A, s = sigma^2: the plan's covariance is C = sqrt(A^2 + s^2/4) - s/2 and

    var_t = ((1-t)^2 + t^2) A + 2 t (1-t) C + t (1-t) s ; the mean moves linearly.
    """
    shape, variance, sigma, shift = (1, 1, 140), 36.0, 4.0, 3.0
    a, b = blob(shape, (0, 0, 68), 6.0, 1e-14), blob(shape, (0, 0, 68 + shift), 6.0, 1e-14)
    s = sigma**2
    covariance = np.sqrt(variance**2 + s**2 / 4) - s / 2
    expected = ((1 - t) ** 2 + t**2) * variance + 2 * t * (1 - t) * covariance + t * (1 - t) * s
    mean, found = moments(np.asarray(bridged(a, b, sigma, (t,)))[0])
    np.testing.assert_allclose(mean[2], 68 + t * shift, atol=1e-4)
    np.testing.assert_allclose(found[2], expected, rtol=1e-3)


@pytest.mark.parametrize("t", [0.25, 0.5])
def test_displacement_between_gaussians_has_the_closed_form(double, t):
    """T(x) = D + c x between Gaussians, c = C / A as above; averaged over r, c = 1 + (C / A - 1) A / (A + r^2).

    var_t = (1-t) (1-t + t c)^2 A + t (t + (1-t) c)^2 A + t (1-t) s, where the splat's 1/6 is a part of the last.
    """
    shape, variance, sigma, shift = (1, 1, 140), 36.0, 4.0, 3.0
    a, b = blob(shape, (0, 0, 68), 6.0, 1e-14), blob(shape, (0, 0, 68 + shift), 6.0, 1e-14)
    s = sigma**2
    slope = (np.sqrt(variance**2 + s**2 / 4) - s / 2) / variance
    slope = 1 + (slope - 1) * variance / (variance + 2 * s)
    frame = np.asarray(displaced(a, b, sigma, (t,)))[0]
    mean, found = moments(frame)
    np.testing.assert_allclose(mean[2], 68 + t * shift, atol=1e-4)
    pushed = (1 - t) * (1 - t + t * slope) ** 2 + t * (t + (1 - t) * slope) ** 2
    np.testing.assert_allclose(found[2], pushed * variance + t * (1 - t) * s, rtol=1e-3)


def test_displacement_field_of_a_shift_is_the_shift():
    """x, y, z in Å on voxels of 1, 2, 4 Å; NaN where the first map has no mass."""
    shape = (14, 18, 20)
    data = blob(shape, (6, 8, 8), 1.6, 1e-3)
    maps = [Volume(d.astype(np.float32), (1.0, 2.0, 4.0)) for d in (data, np.roll(data, (1, -1, 3), (0, 1, 2)))]
    field = displacement_field(maps, Settings(sigma=0.6))
    seen = prepare_maps(maps).volumes[0].data > 0
    np.testing.assert_array_equal(np.isnan(field), np.broadcast_to(~seen, field.shape))
    mean = np.average(field[:, seen], axis=1, weights=data[seen])
    np.testing.assert_allclose(mean, [3.0, -2.0, 4.0], rtol=1e-2)
    with pytest.raises(InputError, match="3 maps were given"):
        displacement_field([*maps, maps[0]])


def test_splat_keeps_mass_and_mean(double):
    rng = np.random.default_rng(0)
    shape = (6, 7, 8)
    mass = rng.random(50)
    places = np.stack([rng.uniform(0, n - 1, 50) for n in shape])
    density = np.asarray(splat(jnp.asarray(mass), jnp.asarray(places), shape))
    np.testing.assert_allclose(density.sum(), mass.sum(), rtol=1e-14)
    np.testing.assert_allclose(moments(density)[0], (places * mass).sum(1) / mass.sum(), rtol=1e-12)


def test_splat_on_voxels_is_exact(double):
    density = scatter((4, 5, 6), 3)
    index = np.flatnonzero(density)
    places = np.stack(np.unravel_index(index, density.shape)).astype(float)
    found = splat(jnp.asarray(density.ravel()[index]), jnp.asarray(places), density.shape)
    np.testing.assert_array_equal(found, density)


def test_splat_takes_places_outside_at_the_faces_and_drops_nan(double):
    places = jnp.array([[-3.0, 1.0, jnp.nan], [0.0, 9.0, 0.0], [0.0, 1.0, 0.0]])
    density = np.asarray(splat(jnp.array([1.0, 2.0, 4.0]), places, (2, 2, 2)))
    assert density[0, 0, 0] == 1.0
    assert density[1, 1, 1] == 2.0
    assert density.sum() == 3.0


@pytest.mark.parametrize("t", [0.1, 0.37, 0.5, 0.9])
def test_a_shifted_uniform_block_stays_uniform(double, t):
    """No holes and no moire: inside, a moving block is as dense as it was.

    By the heat kernel, whose walks spread by the way they go, it draws together and gets denser; nowhere thinner.
    """
    shape = (16, 16, 24)
    a, b = np.zeros(shape), np.zeros(shape)
    a[4:12, 4:12, 4:14], b[4:12, 4:12, 9:19] = 1.0, 1.0
    gaussian, heat = (
        np.asarray(displaced(a / a.sum(), b / b.sum(), 0.5, (t,), kind))[0] * a.sum() for kind in ("dense", "heat")
    )
    start = int(np.ceil(4 + 5 * t))
    inside = np.s_[7:9, 7:9, start + 3 : start + 7]  # away from the faces, where T draws the block together
    np.testing.assert_allclose(gaussian[inside], 1.0, atol=5e-3)
    assert min(frame[6:10, 6:10, start + 1 : start + 8].min() for frame in (gaussian, heat)) > 0.995


@pytest.mark.parametrize("t", [0.1, 0.37, 0.5, 0.9])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_known_ways_leave_no_grid_in_a_block(double, t, sigma):
    """A block that is pushed by 4.5 voxels as a whole: inside, the sum of all shares is one, at any t."""
    block = np.zeros((24, 24, 40))
    block[5:19, 5:19, 8:28] = 1.0
    side = side_of(block / block.sum())
    start = jnp.stack(jnp.unravel_index(side.places.index, block.shape)).astype(float)
    shift = jnp.array([[0.3], [-0.7], [4.5]])
    mass = jnp.exp(side.log_mass)
    paths = Paths(mass, start, start + shift, mass, start, start + shift)
    frame = np.asarray(displacement_frames(paths, jnp.array([t]), sigma, block.shape))[0] * block.sum()
    np.testing.assert_allclose(frame[11:13, 11:13, 20:22], 1.0, atol=1e-5)


def test_map_contracts_towards_local_means(double):
    a = blob((1, 1, 60), (0, 0, 30), 4.0, 1e-10)
    coupling, kernel = solved(a, a, 3.0)
    index = jnp.array([24, 30, 36])
    found = np.asarray(barycentric_map(coupling.potentials[1], kernel, index))[2]
    assert 24 < found[0] < 30
    np.testing.assert_allclose(found[1], 30, atol=1e-9)
    np.testing.assert_allclose(found[0] + found[2], 60, atol=1e-9)


def volumes_of(*data):
    return [
        Volume((mass * d).astype(np.float32), (2.0, 2.0, 2.0))
        for mass, d in zip((3.0, 5.0, 4.0), data, strict=False)
    ]


@pytest.mark.parametrize("method", ["bridge", "displacement"])
def test_morph_by_a_single_plan(bodies, method):
    """Masses, status, the maps themselves at the ends, one iteration count for all."""
    maps = volumes_of(*bodies)
    found = morph(maps, Settings(method=method, times=(0.0, *TIMES, 1.0), sigma=1.0))
    for frame in found.frames:
        assert frame.status is Status.CONVERGED
        assert frame.marginal_error <= 1e-6
        assert frame.mass == pytest.approx(3.0 + 2.0 * frame.time, rel=1e-6)
    prepared = prepare_maps(maps)
    assert np.array_equal(found.densities[0], prepared.volumes[0].data)
    assert np.array_equal(found.densities[-1], prepared.volumes[1].data)
    assert len({frame.iterations for frame in found.frames}) == 1
    assert found.plan.kernel == "heat"


@pytest.mark.parametrize("method", ["bridge", "displacement", "barycenter"])
def test_cropping_changes_nothing(bodies, method):
    """The maps in a larger box, off its centre: the same frames there."""
    settings = Settings(method=method, times=(0.3,), sigma=0.8, tolerance=1e-8)
    small = morph(volumes_of(*bodies), settings).densities[0]
    pads = ((9, 2), (3, 12), (5, 5))
    large = morph(volumes_of(*(np.pad(data, pads) for data in bodies)), settings).densities[0]
    z, y, x = small.shape
    np.testing.assert_allclose(large[9 : 9 + z, 3 : 3 + y, 5 : 5 + x], small, atol=1e-7 * small.max())
    assert np.isclose(large.sum(dtype=np.float64), small.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("method", ["bridge", "displacement"])
def test_a_frame_does_not_depend_on_the_others(bodies, method):
    settings = Settings(method=method, frames=7, sigma=1.0)
    together = morph(volumes_of(*bodies), settings)
    alone = morph(volumes_of(*bodies), replace(settings, times=(together.frames[4].time,)))
    np.testing.assert_allclose(alone.densities[0], together.densities[4], atol=1e-10)


def test_a_sequence_of_bridges_passes_through_its_maps(bodies):
    third = np.roll(bodies[1], 2, axis=2)
    maps = volumes_of(*bodies, third)
    found = morph(maps, Settings(method="bridge", frames=5, sigma=1.0))
    prepared = prepare_maps(maps)
    for index, k in ((0, 0), (2, 1), (4, 2)):
        assert np.array_equal(found.densities[index], prepared.volumes[k].data)
    assert found.complete


def test_progress_of_a_sequence_counts_each_frame_once(bodies):
    seen: list[Progress] = []
    maps = volumes_of(*bodies, np.roll(bodies[1], 2, axis=2))
    morph(maps, Settings(method="bridge", frames=5, sigma=1.0), report=seen.append)
    counts = [progress.done for progress in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert all(progress.lanes == 5 for progress in seen)


def test_mass_that_leaves_the_box_is_put_back_with_a_warning(bodies):
    """A map that touches a face: walks leave there."""
    inside = Settings(method="bridge", times=(0.5,), sigma=1.0)
    assert not [warning for warning in morph(volumes_of(*bodies), inside).warnings if "left the box" in warning]
    prepared = prepare_maps(volumes_of(*(data[:, :, 10:] for data in bodies)))
    cut = morph(prepared, inside)
    assert [warning for warning in cut.warnings if "left the box" in warning]
    assert cut.frames[0].mass == pytest.approx(np.mean(prepared.masses), rel=1e-6)


def test_every_frame_of_an_unconverged_plan_has_its_status(bodies):
    found = morph(volumes_of(*bodies), Settings(method="bridge", frames=3, sigma=0.3, max_iterations=2))
    assert [frame.status for frame in found.frames] == [Status.MAX_ITERATIONS] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "dense"}, "kernel 'dense' does not go with the method 'bridge': give auto or heat"),
        ({"criterion": "change_l1"}, "criterion 'change_l1' does not go with"),
        ({"mass": "original"}, "mass 'original' does not go with"),
        ({"precision": "single"}, "precision 'single' does not go with the method 'bridge': give auto or double"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(bodies, changes, message):
    with pytest.raises(InputError, match=message):
        morph(volumes_of(*bodies), replace(Settings(method="bridge"), **changes))


def test_windows():
    assert bounding_box(np.zeros((2, 3, 4), bool)) == (slice(0, 2), slice(0, 3), slice(0, 4))
    mask = np.zeros((6, 7, 8), bool)
    mask[2, 3, 1], mask[4, 3, 6] = True, True
    inner = bounding_box(mask)
    assert inner == (slice(2, 5), slice(3, 4), slice(1, 7))
    assert widened(inner, (0.5, 0.1, 1.0), 1.0, (20, 21, 22)) == (slice(0, 8), slice(0, 7), slice(0, 10))
    assert widened(inner, (0.5, 0.1, 1.0), 0.0, mask.shape) == (slice(0, 6), slice(1, 6), slice(0, 8))
