"""What a run is expected to take: it grows as it must, and a dry run tells it and does nothing."""

import json

import pytest

from helpers import morphot
from morphot_jax import Settings, prepare_maps, write_volume
from morphot_jax.morphing.plan import plan_for
from morphot_jax.runs.estimate import estimate
from shapes import blob, volume_of

MIB = 2**20


def pair(n):
    centres = (n / 2, n / 2, n / 2 - n / 8), (n / 2, n / 2, n / 2 + n / 8)
    return prepare_maps([volume_of(blob((n, n, n), centre, n / 14, 1e-5)) for centre in centres])


def expected(maps, **options):
    settings = Settings(**options)
    return estimate(maps, plan_for(maps.volumes, settings), settings)


@pytest.mark.parametrize("method", ["linear", "bridge", "displacement", "rigid", "barycenter", "mixed"])
def test_more_voxels_and_more_frames_take_more(method):
    small, large = pair(16), pair(40)
    assert expected(large, method=method).memory > expected(small, method=method).memory
    assert expected(large, method=method).seconds > expected(small, method=method).seconds
    one, other = (expected(large, method=method, frames=frames) for frames in (5, 500))
    assert other.memory >= one.memory + 495 * 4 * 40**3
    assert other.seconds > one.seconds


def test_more_frames_at_once_take_more_memory_and_a_smaller_sigma_more_time():
    maps = pair(40)
    one, other = (expected(maps, method="barycenter", batch=batch) for batch in (1, 8))
    assert other.memory > one.memory + 7 * 8 * 8 * plan_voxels(maps)
    sharp, blurred = (expected(maps, method="barycenter", sigma=sigma) for sigma in (0.5, 4.0))
    assert sharp.seconds > blurred.seconds


def plan_voxels(maps):
    z, y, x = plan_for(maps.volumes, Settings(method="barycenter")).extent
    return z * y * x


def test_nothing_is_said_of_the_time_on_other_devices():
    maps = pair(16)
    settings = Settings(method="bridge")
    assert estimate(maps, plan_for(maps.volumes, settings), settings, on_cpu=False).seconds is None


@pytest.fixture
def paths(tmp_path):
    names = []
    for index, volume in enumerate(pair(20).volumes):
        names.append(tmp_path / f"{index}.mrc")
        write_volume(volume, names[-1])
    return names


@pytest.mark.parametrize("method", ["displacement", "barycenter", "linear"])
def test_a_dry_run_tells_and_writes_nothing(paths, tmp_path, method):
    done = morphot("morph", *paths, "-o", tmp_path / "out", "--method", method, "--dry-run")
    assert done.code == 0, done.err
    assert not (tmp_path / "out").exists()
    for word in ("frames", method, "memory", "GiB", "nothing was solved or written"):
        assert word in done.err
    assert ("kernel" in done.err) is (method != "linear")


def test_a_dry_run_refuses_what_a_run_refuses(paths, tmp_path):
    done = morphot("morph", *paths, "-o", tmp_path / "out", "--sigma", 0.001, "--dry-run")
    assert done.code == 2
    assert "sigma is 0.001 voxels" in done.err


def test_the_report_tells_what_was_expected(paths, tmp_path):
    done = morphot("morph", *paths, "-o", tmp_path / "out", "--frames", 3)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["estimate"]["memory"] > 50 * MIB
    assert report["estimate"]["seconds"] > 0
