"""Files that somebody has tampered with: read, or refused in one line, without a traceback, soon.

The mutations run in a process of their own, whose address space is limited to a gibibyte more than it has when it
begins, so that an allocation of what a header merely claims would fail.
"""

import bz2
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT, morphot
from map_bytes import by_hand, ramp
from morphot_jax import write_volume
from morphot_jax.maps.mrc import read_header, read_volume
from morphot_jax.system import memory
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

HEADERS = 5000
SECONDS = 5.0
ROOM = 2**30


def mutated(block: bytes, rng: np.random.Generator) -> bytes:
    """A file with some of its header's 256 words replaced: by extremes, small numbers, or noise."""
    words = np.frombuffer(block[:1024].ljust(1024, b"\0"), "<u4").copy()
    extremes = [
        0,
        1,
        2,
        3,
        4,
        7,
        255,
        256,
        2**15,
        2**16,
        2**24,
        2**31 - 1,
        2**31,
        2**32 - 1,
        0x7F800000,
        0x7FC00000,
    ]
    for place in rng.choice(256 if rng.random() < 0.3 else 56, size=rng.integers(1, 5), replace=False):
        word = rng.choice(extremes) if rng.random() < 0.7 else rng.integers(0, 2**32)
        words[place] = word if rng.random() < 0.8 else np.uint32(word).byteswap()
    return words.tobytes() + block[1024:]


def sources() -> list[bytes]:
    """Small files of every mode, byte order and axis order."""
    data = ramp((4, 5, 6))
    layouts = [((1, 2, 3), "<"), ((3, 1, 2), ">"), ((2, 1, 3), "<")]
    return [
        by_hand(data, mode=m, axes=a, order=o, extended=bytes(80)) for m in (0, 1, 2, 6, 12) for a, o in layouts
    ]


def run_all(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Read so many mutated files; how many were read, and how many refused."""
    import resource  # noqa: PLC0415
    import time  # noqa: PLC0415

    rng, blocks = np.random.default_rng(seed), sources()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    read = 0
    for number in range(count):
        content = mutated(blocks[number % len(blocks)], rng)
        packed = {0: gzip.compress, 1: bz2.compress}.get(number % 7, bytes)(content)
        path = folder / "map.mrc"
        path.write_bytes(packed)
        started = time.monotonic()
        try:
            read_header(path)
            volume = read_volume(path, voxel_size=None if number % 3 else 1.0)
            assert np.isfinite(volume.data).all()
            assert volume.data.size <= len(content)
            read += 1
        except InputError as error:
            assert len(str(error).splitlines()) == 1, repr(str(error))  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
        assert time.monotonic() - started < SECONDS, f"file {number}"
    return read, count - read


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set by what /proc tells")
def test_five_thousand_mutated_headers(tmp_path):
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / 'tests')!r}];"
        "from pathlib import Path;"
        f"import test_hostile; print(*test_hostile.run_all(Path({str(tmp_path)!r}), {HEADERS}, seed=5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == HEADERS
    assert min(read, refused) > HEADERS / 20  # both ways are taken


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_small_file_that_would_swell_is_refused(tmp_path, pack):
    side = 400
    path = tmp_path / "bomb.mrc.gz"
    header = by_hand(np.zeros((1, 1, 1), np.float32), nx=side, ny=side, nz=side)[:1024]
    path.write_bytes(pack(header + bytes(4 * side**3)))
    assert path.stat().st_size < side**3 / 50
    with pytest.raises(InputError, match=f"would unpack to {4 * side**3} bytes") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_a_map_beyond_the_free_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "map.mrc"
    path.write_bytes(by_hand(ramp((4, 5, 6))))
    monkeypatch.setattr(memory, "free", lambda: 100)
    with pytest.raises(InputError, match="does not fit in memory"):
        read_volume(path)
    monkeypatch.setattr(memory, "free", lambda: None)
    assert read_volume(path).shape == (4, 5, 6)


@pytest.mark.parametrize("command", ["morph", "prepare", "align", "field", "order"])
def test_file_names_that_are_no_text_go_through_every_command(tmp_path, command):
    names = [tmp_path / os.fsdecode(b"m\xff%d.mrc" % number) for number in range(3)]
    for number, name in enumerate(names):
        write_volume(volume_of(blob((10, 11, 12), (5, 5, 5 + 0.5 * number), 1.4, 1e-4)), name)
    given = {
        "order": (names[1], "--between", names[0], names[2], "--frames", 3),
        "morph": (*names[:2], "--frames", 3, "--method", "linear"),
        "align": (*names[:2], "--local"),
    }.get(command, names[:2])
    out = tmp_path / os.fsdecode(b"out\xfe")
    done = morphot(command, *given, "-o", out)
    assert done.code == 0, done.err
    for path in out.rglob("*"):
        if path.suffix in (".json", ".csv", ".html", ".cxc", ".log"):
            path.read_text(encoding="utf-8")


def test_a_missing_file_whose_name_is_no_text_is_one_line(tmp_path):
    for command in ("info", "simulate"):
        name = tmp_path / os.fsdecode(b"gone\xff.pdb")
        done = morphot(command, name, *(("-o", tmp_path / "a.mrc") if command == "simulate" else ()))
        assert done.code == 2
        assert len(done.err.splitlines()) == 1
