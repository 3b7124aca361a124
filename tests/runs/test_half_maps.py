"""Half maps on the command line: what is noise fades along the way, and the report says what is."""

import json

import numpy as np
import pytest

from helpers import morphot
from morphot_jax import Volume
from morphot_jax.maps.mrc import write_volume
from shapes import noisy

NAMES = "first", "last"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two maps, one a shift of the other, each the mean of two half maps with noise of their own."""
    folder = tmp_path_factory.mktemp("halves")
    for index, name in enumerate(NAMES):
        halves = [np.roll(noisy(0.1, 10 * index + k), 2 * index, axis=2).astype(np.float32) for k in (1, 2)]
        for end, data in (("", sum(halves) / 2), ("_half1", halves[0]), ("_half2", halves[1])):
            write_volume(Volume(data, (3.0, 3.0, 3.0)), folder / f"{name}{end}.mrc")
    return folder


def run(folder, *options, halves=NAMES, output="out"):
    maps = [folder / f"{name}.mrc" for name in NAMES]
    given = [f"--half-maps={folder / name}_half1.mrc:{folder / name}_half2.mrc" for name in halves]
    return morphot("morph", *maps, *given, "-o", folder / output, "--frames", 3, *options)


def test_the_report_says_how_much_is_signal_and_noise_fades(folder):
    result = run(folder)
    assert result.code == 0, result.err
    assert "mostly noise, by its half maps: noise fades along the way" in result.out + result.err
    entries = json.loads((folder / "out" / "report.json").read_text())["signal"]
    assert [entry["source"] for entry in entries] == ["half maps"] * 2
    assert [name.rsplit("/")[-1] for name in entries[0]["half_maps"]] == ["first_half1.mrc", "first_half2.mrc"]
    for entry in entries:
        assert entry["frequency"][0] == 0.0
        assert entry["frequency"][-1] == pytest.approx(1 / 6, rel=0.05)  # Nyquist
        assert entry["share"][0] == 1.0 > entry["share"][-1]
        assert 6.0 < entry["resolution"] < 40.0


def test_other_half_maps_are_another_run(folder):
    assert run(folder, output="again").code == 0
    swapped = run(folder, "--resume", halves=NAMES[::-1], output="again")
    assert swapped.code == 2
    assert "holds frames of other maps, settings or versions" in swapped.err


def test_bad_half_maps_are_one_line(folder):
    for result, line in (
        (
            run(folder, halves=NAMES[:1], output="bad"),
            "--half-maps was given 1 times for 2 maps: give HALF1:HALF2",
        ),
        (run(folder, "--method=bridge", output="bad"), "half maps do not go with the method 'bridge'"),
        (run(folder, "--half-maps=one.mrc", halves=NAMES[:1], output="bad"), "'one.mrc' cannot be read: give two"),
        (run(folder, "--half-maps=no.mrc:no.mrc", halves=NAMES[:1], output="bad"), "no.mrc"),
    ):
        assert result.code == 2
        assert line in result.err
        assert result.err.strip().splitlines()[-1].startswith("morphot: error: ")
        assert not (folder / "bad" / "report.json").exists()
    assert run(folder, output=".", halves=NAMES).code == 2  # the folder of the maps holds other files
