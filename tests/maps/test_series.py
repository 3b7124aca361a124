"""Folders of maps: what is taken, in natural order, and what is said."""

import numpy as np
import pytest

from morphot_jax import Volume, write_volume
from morphot_jax.maps.series import expanded
from morphot_jax.system.errors import InputError

MAP = Volume(np.ones((4, 4, 4), np.float32), (1.0, 1.0, 1.0))


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = ["vol_2.mrc", "vol_10.mrc", "vol_0.mrc", "vol_1.map"]
    for name in names:
        write_volume(MAP, tmp_path / name)
    for name in ("doubt_1_to_2.mrc", "mask.mrc"):  # beside a series
        write_volume(MAP, tmp_path / name)
    (tmp_path / "z_values.txt").write_text("0\n1\n")
    found, said = expanded([str(tmp_path)])
    assert found == [str(tmp_path / name) for name in ("vol_0.mrc", "vol_1.map", "vol_2.mrc", "vol_10.mrc")]
    assert said == [f"{tmp_path}: 4 maps, from vol_0.mrc to vol_10.mrc"]


def test_maps_in_inner_folders_are_taken_where_there_are_no_others(tmp_path):
    for state in ("state_2", "state_11"):
        (tmp_path / state).mkdir()
        write_volume(MAP, tmp_path / state / "volume.mrc")
    found, _ = expanded([str(tmp_path)])
    assert found == [str(tmp_path / state / "volume.mrc") for state in ("state_2", "state_11")]


def test_other_names_are_taken_where_none_are_numbered(tmp_path):
    for name in ("open.mrc", "closed.mrc", "b_2.map.gz", "b_11.map"):
        write_volume(MAP, tmp_path / name.removesuffix(".gz"))
    found, _ = expanded([str(tmp_path)])
    assert found == [str(tmp_path / name) for name in ("b_2.map", "b_11.map", "closed.mrc", "open.mrc")]


def test_files_samples_and_entries_stay_as_they_are(tmp_path):
    names = ["a.mrc", "sample:adk-open", "EMD-5138", str(tmp_path / "none")]
    assert expanded(names) == (names, [])


def test_a_folder_without_maps_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no maps"):
        expanded([str(tmp_path)])
