"""A map, and the same map in another form, are one map: their morphs against a third agree."""

import gzip
import shutil
from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from morphot_jax import Settings, Volume, morph, read_volume, write_volume
from morphot_jax.maps.resample import fourier_matrix, fourier_resample
from morphot_jax.maps.samples import sample_volume

AGREE = 1e-3  # relative L2, of each frame


def finer(volume, voxels):
    """The same box with more voxels, by its Fourier series."""
    shape = (voxels,) * 3
    data = fourier_resample(volume.data, shape) * (voxels**3 / volume.data.size)
    edge = volume.voxel_size[0] * volume.shape[0] / voxels
    return replace(volume, data=data.astype(np.float32), voxel_size=(edge,) * 3)


def padded(volume, low, high):
    """A larger box, with the map where it was."""
    origin = tuple(o - low * v for o, v in zip(volume.origin, volume.voxel_size, strict=True))
    return replace(volume, data=np.pad(volume.data, (low, high)), origin=origin)


def moved_grid(volume, fractions):
    """The same function sampled beside its voxels, by its Fourier series; the map is band-limited already."""
    data = volume.data.astype(np.float64)
    for axis, fraction in enumerate(fractions):
        n = volume.shape[axis]
        phase = np.exp(2j * np.pi * np.fft.fftfreq(n) * fraction)
        spectrum = np.moveaxis(np.fft.fft(data, axis=axis), axis, -1) * phase
        data = np.fft.ifft(np.moveaxis(spectrum, -1, axis), axis=axis).real
    x, y, z = (o + f * v for o, f, v in zip(volume.origin, fractions[::-1], volume.voxel_size, strict=True))
    return replace(volume, data=data.astype(np.float32), origin=(x, y, z))


def written(volume, path, *, mode=2, axes=(1, 2, 3), by_nstart=False):
    """A file in another convention, written by mrcfile."""
    data = volume.data.astype(np.float32)
    if mode == 1:
        scale = 32000.0 / data.max()
        data = np.rint(data * scale).astype(np.int16)
    elif mode == 12:
        data = data.astype(np.float16)
    slowest_first = [3 - axis for axis in axes[::-1]]
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(data.transpose(slowest_first)))
        file.header.mapc, file.header.mapr, file.header.maps = axes
        n = np.array(volume.shape[::-1])
        file.header.mx, file.header.my, file.header.mz = n
        cell = n * np.array(volume.voxel_size)
        file.header.cella.x, file.header.cella.y, file.header.cella.z = cell
        if by_nstart:
            start = np.rint(np.divide(volume.origin, volume.voxel_size)).astype(int)
            values = [int(start[axis - 1]) for axis in axes]
            file.header.nxstart, file.header.nystart, file.header.nzstart = values
        else:
            file.header.origin.x, file.header.origin.y, file.header.origin.z = volume.origin
    return path


def through(path_of):
    return lambda volume, folder: read_volume(path_of(volume, folder / "other.mrc"))


def zipped(volume, path):
    write_volume(volume, path)
    packed = path.with_suffix(".map.gz")
    with open(path, "rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    return packed


FORMS = {
    "a larger box": lambda v, _: padded(v, 7, 5),
    "smaller voxels": lambda v, _: finer(v, 80),
    "a larger box of smaller voxels": lambda v, _: finer(padded(v, 8, 8), 100),
    "voxels beside those of the other": lambda v, _: moved_grid(finer(padded(v, 7, 7), 96), (0.5, 0.25, -0.4)),
    "sections along x": through(lambda v, path: written(v, path, axes=(2, 3, 1))),
    "sections along y": through(lambda v, path: written(v, path, axes=(3, 1, 2))),
    "nstart in place of ORIGIN": through(lambda v, path: written(v, path, by_nstart=True)),
    "16-bit integers": through(lambda v, path: written(v, path, mode=1)),
    "16-bit floats": through(lambda v, path: written(v, path, mode=12)),
    "gzip": through(zipped),
    "all at once": through(
        lambda v, path: written(finer(padded(v, 8, 8), 100), path, mode=12, axes=(3, 1, 2), by_nstart=False)
    ),
}


@pytest.fixture(scope="module")
def third():
    return sample_volume("mmcpn-open")


@pytest.fixture(scope="module")
def maps(third):
    """A map of real size and detail, and its morph against the third."""
    volume = sample_volume("mmcpn-closed")
    return volume, frames(third, volume)


def frames(third: Volume, volume: Volume):
    """At unit mass: another voxel size or mode is another unit of density.

    By displacement: rounds of the method 'rigid' end by a threshold, so that two forms may differ by a round or
    0.4 %.
    """
    densities = morph([third, volume], Settings(frames=4, method="displacement")).densities
    return [density / density.sum(dtype=np.float64) for density in densities]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_map_in_another_form_gives_the_same_morph(maps, third, tmp_path, form):
    volume, expected = maps
    found = frames(third, FORMS[form](volume, tmp_path))
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(found, expected, strict=True)]
    assert max(errors) < AGREE


# What it rests on.


@pytest.mark.parametrize("n", [7, 8])
@pytest.mark.parametrize("m", [5, 6, 8, 11, 12])
def test_the_fourier_matrix_resamples_as_the_transform_does(n, m):
    data = np.random.default_rng(n * m).normal(size=(1, 1, n))
    expected = fourier_resample(data, (1, 1, m))[0, 0] * (m / n)
    found = fourier_matrix(n, np.arange(m) * n / m, 2.0 * n / m) @ data[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("n", [9, 10])
def test_the_fourier_matrix_is_exact_for_band_limited_functions(n):
    places = np.linspace(-0.5, n - 0.5, 37)

    def function(x):
        return 1.5 + np.cos(2 * np.pi * x / n + 0.3) - 2.0 * np.sin(2 * np.pi * 4 * x / n)

    np.testing.assert_allclose(fourier_matrix(n, places) @ function(np.arange(n)), function(places), atol=1e-12)
    np.testing.assert_array_equal(fourier_matrix(n, np.array([-0.6, n - 0.4])), 0.0)
    np.testing.assert_allclose(fourier_matrix(n, np.arange(float(n))), np.eye(n), atol=1e-14)
