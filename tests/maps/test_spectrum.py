"""Sums over shells are the same for half of the transform and for the whole one."""

import numpy as np
import pytest

from morphot_jax.maps.spectrum import radii, shells, summed


@pytest.mark.parametrize("shape", [(4, 5, 6), (5, 4, 7), (6, 6, 6), (3, 8, 2)])
@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (1.0, 2.5, 0.7)])
def test_sums_over_shells_are_those_of_the_whole_transform(shape, voxel_size):
    data = np.random.default_rng(sum(shape)).normal(size=shape)
    whole = np.abs(np.fft.fftn(data)) ** 2
    axes = [np.fft.fftfreq(n, step) for n, step in zip(shape, voxel_size[::-1], strict=True)]
    radius = np.linalg.norm(np.meshgrid(*axes, indexing="ij"), axis=0)
    longest = max(n * step for n, step in zip(shape, voxel_size[::-1], strict=True))
    expected = np.bincount(np.rint(radius * longest).astype(int).ravel(), whole.ravel())
    shell = shells(shape, voxel_size)
    found = summed(np.abs(np.fft.rfftn(data)) ** 2, shell, shape[2])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)
    assert found.sum() == pytest.approx((data**2).sum() * data.size)  # Parseval
    np.testing.assert_allclose(radii(shape, voxel_size), radius[..., : shape[2] // 2 + 1], atol=1e-12)
