"""Runs that meet a limit: a full disk, a folder that is not writable, a map that goes away, little memory."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import pytest

from helpers import COMMAND, morphot
from morphot_jax import read_volume
from morphot_jax.maps.load import load
from morphot_jax.system.errors import InputError
from shapes import blobs_in_files

GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return blobs_in_files(tmp_path_factory.mktemp("maps"), (28, 28, 28), [(12, 12, 9), (14, 13, 17)], sd=2.0)


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def assert_one_line(done, *words):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("morphot: error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert not [word for word in words if word not in lines[0]], lines[0]


@contextmanager
def small_disk(folder, size):
    """A file system of its own in memory; skipped where this user may not have one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_line_and_leaves_complete_files(maps, tmp_path):
    """A frame takes 88 kB: a few fit. With room, the run goes on and ends like any other."""
    options = ("--frames", 9, "--method", "barycenter", "--sigma", 1.0)
    with small_disk(tmp_path / "disk", "400k") as disk:
        done = run("morph", *maps, "-o", disk / "out", *options)
        assert_one_line(done, "No space left on device")
        frames = sorted((disk / "out").glob("vol_*.mrc"))
        assert 0 < len(frames) < 9
        for frame in frames:
            assert read_volume(frame).shape == (28, 28, 28)
        assert not list((disk / "out").rglob("*.part"))
        assert not (disk / "out" / "report.json").exists()
        assert "No space left on device" in (disk / "out" / "run.log").read_text().splitlines()[-1]
        shutil.copytree(disk / "out", tmp_path / "out")
    assert run("morph", *maps, "-o", tmp_path / "out", *options, "--resume").returncode == 0
    assert run("morph", *maps, "-o", tmp_path / "whole", *options).returncode == 0
    for frame in (tmp_path / "whole").glob("vol_*.mrc"):
        assert (tmp_path / "out" / frame.name).read_bytes() == frame.read_bytes()


@pytest.mark.parametrize("command", ["prepare", "align"])
def test_a_full_disk_is_one_line_for_other_commands(maps, tmp_path, command):
    with small_disk(tmp_path / "disk", "60k") as disk:
        search = ["--local"] if command == "align" else []  # the search is not what is tried here
        done = run(command, *maps, "-o", disk / "out", *search)
        assert_one_line(done, "No space left on device")
        for path in (disk / "out").rglob("*.mrc"):
            assert mrcfile.validate(path)
        assert not list((disk / "out").rglob("*.part"))


def test_a_log_that_the_disk_has_no_room_for_hides_no_other_error(maps, tmp_path):
    with small_disk(tmp_path / "disk", "8k") as disk:  # a page for the record, and none for the log
        (disk / "filler").write_bytes(b"x" * 4096)
        done = run("prepare", *maps, "-o", disk / "out")
        assert_one_line(done, "No space left on device", ".mrc")
        assert done.stderr.count("run.log") == 1


@contextmanager
def read_only(folder):
    """A folder that nobody may write into, root included."""
    folder.mkdir()
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False)
    if bound.returncode:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere, and may not mount here")
        folder.chmod(0o500)
    else:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    try:
        yield folder
    finally:
        if bound.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        folder.chmod(0o700)


def test_a_folder_that_is_not_writable_is_refused_before_the_solve(maps, tmp_path):
    with read_only(tmp_path / "locked") as folder:
        for output in (folder, folder / "out"):
            done = morphot("morph", *maps, "-o", output, "--frames", 3)
            assert done.code == 2
            assert len(done.err.strip().splitlines()) == 1
            assert str(folder) in done.err
            assert "iteration" not in done.err


def test_a_map_that_goes_away_while_it_is_read_is_one_line(maps, tmp_path, monkeypatch):
    path = tmp_path / "gone.mrc"
    shutil.copy(maps[0], path)

    def read_and_lose(name, **options):
        volume = read_volume(name, **options)
        path.unlink()
        return volume

    monkeypatch.setattr("morphot_jax.maps.load.read_volume", read_and_lose)
    with pytest.raises(InputError, match=r"gone\.mrc.*still there"):
        load(str(path))


@contextmanager
def group_of(limit):
    """A group of processes that may hold so many bytes; skipped where this user may not make one."""
    folder = GROUPS / f"morphot_test_{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(limit))
    except OSError:
        pytest.skip("this user may not limit the memory of a group of processes")
    try:
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


@pytest.mark.study
def test_barycenters_of_128_cubed_in_two_gigabytes(tmp_path):
    """25 frames; few iterations, since what they need does not grow with their number."""
    with group_of(2 * 10**9) as members:
        maps = ("sample:mmcpn-open", "sample:mmcpn-closed")
        options = ("--grid", 128, "--frames", 25, "--method", "barycenter", "--max-iterations", 3)
        arguments = ["morph", *maps, "-o", tmp_path / "out", *options]
        shell = 'echo $$ > "$0"; exec "$@"'
        done = subprocess.run(
            ["sh", "-c", shell, members, *COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1, done.stderr  # 3 iterations are too few to converge
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert len(report["frames"]) == 25
    assert report["peak_memory_bytes"] < 2 * 10**9
    assert report["estimate"]["memory"] < 2 * 10**9
