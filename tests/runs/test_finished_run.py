"""A finished run: its viewer written again, and movies that other programs can read."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers import morphot
from morphot_jax.maps.mrc import write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.show import movie
from morphot_jax.show.colouring import lengths_along
from morphot_jax.show.scene import scene_of
from shapes import blob

SHAPE, VOXEL = (14, 16, 18), (2.0, 2.0, 2.0)


def maps_in(folder):
    """A blob, and the same moved by 8 Å along x."""
    names = []
    for name, x in (("a", 6), ("b", 10)):
        data = blob(SHAPE, (7, 8, x), 1.6, floor=1e-4)
        write_volume(Volume((1e3 * data).astype(np.float32), VOXEL), folder / f"{name}.mrc")
        names.append(folder / f"{name}.mrc")
    return names


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    done = morphot("morph", *maps_in(folder), "-o", folder / "out", "--frames", 5, "--sigma", 1)
    assert done.code == 0
    return folder / "out"


@pytest.fixture
def out(finished, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(finished, tmp_path / "out")


def test_view_writes_the_same_page_as_the_run_did(out):
    before = (out / "viewer.html").read_bytes()
    (out / "viewer.html").unlink()
    done = morphot("view", out)
    assert done.code == 0
    assert "viewer.html: 5 frames" in done.err
    assert (out / "viewer.html").read_bytes() == before


def test_view_coloured_by_displacement_holds_its_lengths(out):
    before = (out / "viewer.html").stat().st_size
    assert morphot("view", out, "--colour", "displacement", "-q").code == 0
    assert (out / "viewer.html").stat().st_size > before


def test_mass_that_goes_everywhere_equally_far_has_one_colour(finished):
    frames = np.stack([blob(SHAPE, (7, 8, x), 1.6, floor=1e-4).astype(np.float32) for x in (6, 8, 10)])
    levels = np.array([level_of_mass(frame) for frame in frames])
    scene = scene_of(frames, np.array([0.0, 0.5, 1.0]), levels, Volume(frames[0], VOXEL))
    values, longest = lengths_along(scene)
    assert values.shape == scene.densities.shape
    assert longest == pytest.approx(8.0, rel=0.15)
    for density, value in zip(scene.densities, values, strict=True):
        np.testing.assert_allclose(value[density >= 1.0], 8.0, rtol=0.15)


def test_films_have_every_frame_forth_and_back(out, tmp_path):
    path = tmp_path / "morph.gif"
    done = morphot("movie", out, "-o", path, "--size", 101, "--rate", 10)
    assert done.code == 0
    with Image.open(path) as read:
        assert read.size == (100, 100)
        assert read.n_frames == 8  # 5 forth, 3 back
        assert read.info["duration"] == 100
        assert read.info["loop"] == 0
        stills = []
        for index in range(read.n_frames):
            read.seek(index)
            stills.append(np.asarray(read.convert("RGB"), float))
    body = [np.argwhere(still[20:80].min(axis=-1) < 200)[:, 1].mean() for still in stills]
    assert body[0] < body[2] < body[4]  # it goes to the right
    np.testing.assert_allclose(body[5:], body[3:0:-1], atol=0.5)  # and back


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its pipes open
def test_film_of_ffmpeg_can_be_read_again(out, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "films" / "morph.mp4"
    assert morphot("movie", out, "-o", path, "--size", 120, "--view", "z", "-q").code == 0
    reader = ffmpeg.read_frames(str(path))
    movie_info = next(reader)
    assert movie_info["size"] == (120, 120)
    assert movie_info["fps"] == 12.0
    stills = [np.frombuffer(data, np.uint8).reshape(120, 120, 3) for data in reader]
    assert len(stills) == 8
    corner = stills[0][-20:, :60]
    assert corner.min() < 90  # the scale bar
    assert not [path.name for path in path.parent.iterdir() if path.name != "morph.mp4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "film.avi"], ["'film.avi'", ".mp4 or .gif"]),
        (["-o", "film.gif", "--size", 20], ["size is 20", "100 to 2000"]),
        (["-o", "film.gif", "--rate", 0], ["rate is 0"]),
        (["-o", "film.gif", "--view", "above"], ["above", "tilted"]),
    ],
)
def test_films_that_cannot_be_made_are_refused_in_one_line(out, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = morphot("movie", out, *options)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert all(word in done.err for word in words)
    assert not (tmp_path / "film.gif").exists()


def test_films_overwrite_nothing_unless_they_are_told_to(out, tmp_path):
    path = tmp_path / "film.gif"
    path.write_bytes(b"precious")
    done = morphot("movie", out, "-o", path, "--size", 100)
    assert (done.code, path.read_bytes()) == (2, b"precious")
    assert "--overwrite" in done.err
    assert morphot("movie", out, "-o", path, "--size", 100, "--overwrite", "-q").code == 0
    assert path.read_bytes().startswith(b"GIF")


def test_film_that_cannot_be_written_leaves_nothing(out, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    done = morphot("movie", out, "-o", tmp_path / "file" / "film.gif", "--size", 100)
    assert done.code == 2
    assert done.err.strip().splitlines()[-1].startswith("morphot: error: cannot make the folder")


def broken(out, what):
    if what == "no run":
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif what == "no table":
        (out / "metrics.csv").unlink()
    elif what == "a frame is gone":
        (out / "vol_003.mrc").unlink()
    elif what == "a frame is none":
        (out / "vol_000.mrc").write_bytes(b"no map")
    elif what == "strange report":
        (out / "report.json").write_text(json.dumps({"frames": [1, 2, 3, 4, 5]}))


@pytest.mark.parametrize("what", ["no run", "no table", "a frame is gone", "a frame is none", "strange report"])
@pytest.mark.parametrize("command", ["view", "movie"])
def test_folders_without_a_whole_run_are_refused_in_one_line(out, what, command, tmp_path):
    broken(out, what)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    options = ["-o", tmp_path / "film.gif"] if command == "movie" else []
    done = morphot(command, out, *options)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("morphot: error: ")
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_sequences_of_maps_are_not_coloured(tmp_path):
    first, second = maps_in(tmp_path)
    out = tmp_path / "out"
    assert morphot("morph", first, second, first, "-o", out, "--method", "linear", "--frames", 3).code == 0
    done = morphot("view", out, "--colour", "displacement")
    assert done.code == 2
    assert "a morph of 3 maps" in done.err


def test_stills_are_the_same_forth_and_back():
    stills = [np.full((2, 2, 3), value, np.uint8) for value in range(4)]
    assert [int(still[0, 0, 0]) for still in movie.forth_and_back(stills)] == [0, 1, 2, 3, 2, 1]
    assert len(movie.forth_and_back(stills[:1])) == 1
