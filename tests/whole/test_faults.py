"""Small files of other people that failed once (``faults/README.md`` beside the real maps), and what is right."""

import numpy as np
import pytest

from helpers import SHARED_DATA, morphot
from morphot_jax import read_volume
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


def test_a_model_with_an_atom_at_no_place_is_one_line(tmp_path):
    done = morphot("simulate", FAULTS / "nan.cif", "-o", tmp_path / "a.mrc")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "1 of 2 atoms have no place" in done.err
    assert not (tmp_path / "a.mrc").exists()


def test_the_page_of_a_captive_portal_is_no_map():
    with pytest.raises(InputError, match="is not an MRC or CCP4 map"):
        check_file(FAULTS / "portal.map.gz")
