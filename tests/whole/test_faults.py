"""Small files of other people that failed once (``faults/README.md`` beside the real maps), and what is right."""

import json

import numpy as np
import pytest

from helpers import SHARED_DATA, morphot
from morphot_jax import Settings, metrics, morph, prepare_maps, read_volume
from morphot_jax.maps.mrc import check_file
from morphot_jax.system.errors import InputError

FAULTS = SHARED_DATA / "faults"
pytestmark = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"no faulty files at {FAULTS}")


def test_a_map_without_its_stamp_is_morphed_as_the_map_that_it_is(tmp_path):
    frames = []
    for name in ("shift_a", "no_stamp"):
        out = tmp_path / name
        done = morphot("morph", FAULTS / f"{name}.mrc", FAULTS / "shift_b.mrc", "-o", out, "--frames", 3)
        assert done.code == 0, done.err
        assert ("does not say that it is a map" in done.err) == (name == "no_stamp")
        frames.append([read_volume(path).data for path in sorted(out.glob("vol_*.mrc"))])
    np.testing.assert_array_equal(*frames)
    done = morphot("info", FAULTS / "no_stamp.mrc")
    assert done.code == 0
    assert "does not say that it is a map" in done.out


@pytest.mark.parametrize(
    ("options", "same", "shifted"),
    [
        ({}, 0.032, 0.16),
        ({"kernel": "dense"}, 0.032, 0.032),
        ({"method": "bridge"}, 0.0012, 0.065),
        ({"method": "barycenter"}, 0.075, 0.075),
        ({"method": "barycenter", "debias": True, "tolerance": 1e-5}, 1e-4, 1e-4),
    ],
)
def test_equal_maps_and_a_shift_are_as_near_their_exact_answers_as_the_docs_say(options, same, shifted):
    """Half way, relative rms; the bounds are a tenth above what was measured."""
    first, last, half = (read_volume(FAULTS / f"shift_{name}.mrc") for name in ("a", "b", "half"))
    for pair, answer, bound in (((first, first), first, same), ((first, last), half, shifted)):
        frame = morph(prepare_maps(pair), Settings(times=(0.5,), **options)).densities[0]
        unit, wanted = (data.astype(np.float64) / data.sum(dtype=np.float64) for data in (frame, answer.data))
        assert metrics.relative_rms(unit, wanted) < bound


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("method", ["displacement", "barycenter"])
def test_a_pedestal_does_not_change_the_frames(method, share):
    """Twentieth and fifth of the maximum added to every voxel."""
    maps = [read_volume(FAULTS / f"{name}.mrc") for name in ("shift_a", "shift_b")]
    raised = [volume.with_data(volume.data + share * volume.data.max()) for volume in maps]
    frames, found = (morph(pair, Settings(method=method, times=(0.25, 0.5))).densities for pair in (maps, raised))
    for expected, frame in zip(frames, found, strict=True):
        assert metrics.relative_rms(frame, expected) < 0.01
        assert frame.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_signed_bytes_hold_the_molecule_that_was_stored():
    prepared = prepare_maps([read_volume(FAULTS / f"{name}.mrc") for name in ("bytes_a", "shift_a")])
    stored, given = (volume.data / volume.data.max() for volume in prepared.volumes)
    assert prepared.backgrounds == (-128.0, 0.0)
    assert np.abs(stored - given).max() <= 0.5 / 255 + 1e-6  # rounded to bytes
    assert np.count_nonzero(stored) == np.count_nonzero(given > 0.5 / 255)


def test_ripples_of_a_filter_are_kept_and_no_mass_is_made(tmp_path):
    done = morphot("prepare", FAULTS / "shift_a.mrc", "-o", tmp_path / "a", "--lowpass", 8)
    assert done.code == 0
    assert "noise" not in done.out + done.err
    entry = json.loads((tmp_path / "a" / "prepare.json").read_text())["maps"][0]
    assert entry["mass_kept"] == pytest.approx(1.0, abs=1e-6)


def test_a_fibre_through_the_faces_ends_there(tmp_path):
    """It is moved by half a voxel along z, so one first slice lies half a voxel beyond the other."""
    fibres = [FAULTS / f"{name}.mrc" for name in ("fibre", "fibre_half_voxel")]
    done = morphot("prepare", *fibres, "-o", tmp_path / "a", "--level", "none")
    assert done.code == 0
    assert "the faces of its box across z cut its structure" in done.out + done.err
    first, second = (read_volume(path).data for path in sorted((tmp_path / "a").glob("*.mrc")))
    for own, other in zip(second, first, strict=True):
        assert np.abs(own - other).sum() < 0.02 * other.sum()
        assert np.linalg.norm(own - other) < 0.02 * np.linalg.norm(other)


def test_a_model_with_an_atom_at_no_place_is_one_line(tmp_path):
    done = morphot("simulate", FAULTS / "nan.cif", "-o", tmp_path / "a.mrc")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "1 of 2 atoms have no place" in done.err
    assert not (tmp_path / "a.mrc").exists()


def test_the_page_of_a_captive_portal_is_no_map():
    with pytest.raises(InputError, match="is not an MRC or CCP4 map"):
        check_file(FAULTS / "portal.map.gz")
