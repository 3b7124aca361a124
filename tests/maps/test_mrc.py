"""Map files against independent readers (gemmi, mrcfile), files written by hand, and damaged files.

Files "by hand" are laid out here voxel by voxel from the format's definition, without the code under test.
"""

import bz2
import errno
import gzip
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import morphot_jax
from helpers import SHARED_DATA
from map_bytes import MODES, by_hand, ramp
from morphot_jax.maps.mrc import read_header, read_volume, write_volume
from morphot_jax.maps.volume import Volume
from morphot_jax.system.errors import InputError, InputWarning
from shapes import blob, volume_of

COMPRESSORS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}
FEW = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def io_files():
    folder = SHARED_DATA / "io"
    if not folder.is_dir():
        pytest.skip("the real map files of ../shared/data/io are not here")
    return folder


def saved(tmp_path, content, name="map.mrc"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_names_in_one_line(line, path):
    assert "\n" not in line
    assert repr(str(path)) in line


def assert_native_float32(data):
    assert data.dtype == np.float32
    assert data.dtype.isnative
    assert data.flags.c_contiguous
    assert data.flags.writeable


def refused(path, *words, act=read_volume, **options):
    """Return the line of the refusal, after checking that it names the path and contains the words."""
    with pytest.raises(InputError) as caught:
        act(path, **options)
    line = str(caught.value)
    assert_names_in_one_line(line, path)
    assert [word for word in words if word not in line] == []
    return line


def outcome(path):
    try:
        return read_volume(path), ""
    except InputError as error:
        return None, str(error)


def is_valid(path):
    with open(os.devnull, "w") as nowhere:
        return mrcfile.validate(path, print_file=nowhere)


def raw_header(path):
    with mrcfile.open(path, header_only=True) as file:
        return file.header.copy()


# Real files, compared with gemmi's reading (axes brought to x y z by gemmi's ReorderOnly)


@pytest.mark.parametrize(
    "name",
    [
        "5i55_tiny.ccp4",
        "EMD-3001.map",
        "EMD-3197.map",
        "cctbx_ccp4_20_21_22_to_30_40_50.ccp4",
        "cctbx_non_zero_origin_map.ccp4",
        "emd_3197.map.gz",
        "emd_5168_monomer.mrc",
        "iota_yzx.ccp4.gz",
        "sfftk_merged_mask_mode1.mrc",
        "sfftk_multi0_mode0.map",
    ],
)
def test_real_file_reads_as_gemmi_reads_it(io_files, name):
    volume = read_volume(io_files / name)
    theirs = gemmi.read_ccp4_map(str(io_files / name))
    theirs.setup(float("nan"), gemmi.MapSetup.ReorderOnly)
    voxels = np.array(theirs.grid, copy=True).transpose(2, 1, 0)
    cell, grid = theirs.grid.unit_cell, [theirs.header_i32(word) for word in (8, 9, 10)]
    voxel_size = np.divide([cell.a, cell.b, cell.c], grid)
    nstart = tuple(theirs.header_i32(word) for word in (5, 6, 7))
    field = [theirs.header_float(word) for word in (50, 51, 52)]
    np.testing.assert_array_equal(volume.data, voxels)
    np.testing.assert_allclose(volume.voxel_size, voxel_size, rtol=1e-6)
    np.testing.assert_allclose(volume.origin, field if any(field) else nstart * voxel_size, rtol=1e-6)
    np.testing.assert_allclose(volume.cell_angles, [cell.alpha, cell.beta, cell.gamma], atol=1e-4)
    assert volume.nstart == nstart
    assert_native_float32(volume.data)


@pytest.mark.parametrize("name", ["EMD-3001.map", "cctbx_non_zero_origin_map.ccp4", "emd_5168_monomer.mrc"])
def test_real_file_survives_writing(io_files, tmp_path, name):
    volume = read_volume(io_files / name)
    write_volume(volume, tmp_path / "out.mrc")
    again = read_volume(tmp_path / "out.mrc")
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.voxel_size, volume.voxel_size, rtol=1e-6)
    np.testing.assert_allclose(again.origin, volume.origin, rtol=1e-6)
    assert (again.nstart, again.cell_angles) == (volume.nstart, volume.cell_angles)
    assert is_valid(tmp_path / "out.mrc")


def test_real_file_with_a_header_larger_than_its_data_is_refused(io_files):
    refused(io_files / "sfftk_corrupt_header.map", "truncated", "71 x 401 x 301", "34279084", "84")


def test_real_header_with_an_impossible_label_count(io_files):
    header = read_header(io_files / "sfftk_corrupt_header.map")  # nlabl is 11
    assert header.labels == ("::::EMDATABANK.org::::EMD-8174::::",) * 10


# Layouts, by hand


@FEW
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    axes=st.sampled_from(list(permutations((1, 2, 3)))),
    order=st.sampled_from("<>"),
    mode=st.sampled_from(list(MODES)),
    starts=st.tuples(*[st.integers(-40, 40)] * 3),
    suffix=st.sampled_from(list(COMPRESSORS)),
    extended=st.sampled_from([b"", b"S" * 80]),
)
def test_every_layout_gives_the_same_volume(shape, axes, order, mode, starts, suffix, extended):
    voxel_size, data = (1.0, 1.25, 2.5), ramp(shape)
    file_starts = {f"n{'xyz'[i]}start": starts[axis - 1] for i, axis in enumerate(axes)}
    content = by_hand(
        data, mode=mode, order=order, axes=axes, voxel_size=voxel_size, extended=extended, **file_starts
    )
    with tempfile.TemporaryDirectory() as folder:
        volume = read_volume(saved(Path(folder), COMPRESSORS[suffix](content), "map.mrc" + suffix))
    np.testing.assert_array_equal(volume.data, data)
    assert_native_float32(volume.data)
    assert volume.voxel_size == voxel_size
    assert volume.nstart == starts
    assert volume.origin == tuple(n * size for n, size in zip(starts, voxel_size, strict=True))


@pytest.mark.parametrize(("mode", "low", "high"), [(0, -128, 127), (1, -32768, 32767), (6, 0, 65535)])
def test_integer_modes_span_their_range(tmp_path, mode, low, high):
    data = np.array([[[low, high]]], np.float32)
    np.testing.assert_array_equal(read_volume(saved(tmp_path, by_hand(data, mode=mode))).data, data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("flags", "first"), [(0, 200), (1, -56)])
def test_imod_stamp_tells_whether_bytes_are_signed(tmp_path, order, flags, first):
    extra2 = b"\0" * 40 + np.array([1146047817, flags], order + "i4").tobytes()
    content = by_hand(np.zeros((1, 1, 2)), mode=0, order=order, extra2=extra2)
    path = saved(tmp_path, content[:-2] + bytes([200, 7]))
    assert read_volume(path).data.ravel().tolist() == [first, 7]


def test_compression_is_told_by_content(tmp_path):
    for compress, name in product((gzip.compress, bz2.compress, bytes), ("a.map", "a.mrc.gz", "a.mrc.bz2")):
        path = saved(tmp_path, compress(by_hand(ramp())), name)
        np.testing.assert_array_equal(read_volume(path).data, ramp())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("stamp", [(0, 0, 0, 0), (0x11, 0x11, 0, 0), (0x44, 0x44, 0, 0), (0x44, 0x41, 0, 0)])
def test_axis_order_outvotes_a_wrong_machine_stamp(tmp_path, order, stamp):
    path = saved(tmp_path, by_hand(ramp(), order=order, machst=stamp))
    np.testing.assert_array_equal(read_volume(path).data, ramp())


def test_bytes_after_the_last_voxel_are_ignored(tmp_path):
    path = saved(tmp_path, by_hand(ramp(), tail=b"more"))
    np.testing.assert_array_equal(read_volume(path).data, ramp())


def test_reading_never_warns_of_odd_headers(tmp_path):
    path = saved(
        tmp_path, by_hand(ramp(), tail=b"x", nlabl=-3, machst=(7, 7, 7, 7), nversion=-1, exttyp=b"\xff\xfe")
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_volume(path).data, ramp())


# Place and scale


def test_origin_field_goes_before_nstart(tmp_path):
    volume = read_volume(saved(tmp_path, by_hand(ramp(), origin=(1, 0, -2), nxstart=7)))
    assert volume.origin == (1.0, 0.0, -2.0)
    assert volume.nstart == (7, 0, 0)


def test_given_voxel_size_goes_before_the_header(tmp_path):
    path = saved(tmp_path, by_hand(ramp(), nxstart=2, nystart=-1))
    one, three = read_volume(path, voxel_size=2.0), read_volume(path, voxel_size=(1.0, 2.0, 3.0))
    assert (one.voxel_size, one.origin) == ((2.0, 2.0, 2.0), (4.0, -2.0, 0.0))
    assert (three.voxel_size, three.origin) == ((1.0, 2.0, 3.0), (2.0, -2.0, 0.0))


@pytest.mark.parametrize(
    "fields", [{"cella": (0, 0, 0)}, {"mx": 0}, {"cella": (1, -1, 1)}, {"cella": (1, 1, np.nan)}, {"mz": -4}]
)
def test_missing_voxel_size_asks_for_one(tmp_path, fields):
    path = saved(tmp_path, by_hand(ramp(), **fields))
    refused(path, "no voxel size", "--apix")
    assert read_volume(path, voxel_size=1.5).voxel_size == (1.5, 1.5, 1.5)
    assert read_header(path).voxel_size is None


@pytest.mark.parametrize("voxel_size", [0.0, -1.0, float("nan"), float("inf"), (1.0, 1.0, 0.0)])
def test_impossible_given_voxel_size_is_refused(tmp_path, voxel_size):
    refused(saved(tmp_path, by_hand(ramp())), str(voxel_size), voxel_size=voxel_size)


@pytest.mark.parametrize("ispg", [0, 1])
@pytest.mark.parametrize("edge", [2.0, 2.0 * 30])
def test_one_grid_step_along_z_means_an_image_stack(tmp_path, ispg, edge):
    path = saved(tmp_path, by_hand(ramp((30, 2, 3)), ispg=ispg, mz=1, cella=(6, 4, edge)))
    assert read_volume(path).voxel_size == (2.0, 2.0, 2.0)


def test_zero_cell_angles_mean_right_angles(tmp_path):
    assert read_volume(saved(tmp_path, by_hand(ramp(), cellb=(0, 0, 0)))).orthogonal


def test_header_describes_the_file(tmp_path):
    labels = [b"first", b"sec\xffond", b"", b"unused"]
    fields = {"nxstart": 9, "exttyp": b"CCP4", "ispg": 4, "nlabl": 3, "label": labels + [b""] * 6}
    content = by_hand(ramp((2, 3, 4)), mode=1, order=">", axes=(2, 1, 3), extended=b"e" * 160, **fields)
    header = read_header(saved(tmp_path, gzip.compress(content)))
    assert header.shape == (2, 3, 4)
    assert (header.mode, header.voxel_type, header.byte_order) == (1, "int16", "big")
    assert header.axis_order == (2, 1, 3)
    assert (header.voxel_size, header.origin) == ((1.5, 1.5, 1.5), (0.0, 13.5, 0.0))
    assert header.labels == ("first", "second")
    assert (header.extended_header_bytes, header.extended_header_type) == (160, "CCP4")
    assert (header.space_group, header.compression, header.data_bytes) == (4, "gzip", 48)


# Refusals


def test_paths_that_are_not_files_are_refused(tmp_path):
    refused(tmp_path / "none.mrc", "no such file")
    refused(tmp_path, "folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "regular file")


def test_line_break_in_a_name_stays_in_one_line(tmp_path):
    refused(tmp_path / "a\nb.mrc", "no such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(tmp_path):
    path = saved(tmp_path, by_hand(ramp()))
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.parametrize(
    "content", [b"", b"ATOM      1  CA  ALA A   1\n", b"x y z\n" * 1000, b"PK\3\4" + b"\0" * 2000]
)
@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_other_files_are_refused(tmp_path, content, suffix):
    refused(saved(tmp_path, COMPRESSORS[suffix](content)), "not an MRC or CCP4 map")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": 3}, ["mode 3", "complex"]),
        ({"mode": 4}, ["mode 4", "complex"]),
        ({"mode": 16}, ["mode 16", "RGB"]),
        ({"mode": -77}, ["mode -77", "unknown"]),
        ({"maps": 2}, ["mapc, mapr, maps", "(1, 2, 2)"]),
        ({"mapc": 0, "mapr": 0, "maps": 0}, ["mapc, mapr, maps", "(0, 0, 0)"]),
        ({"nx": 0}, ["nx, ny, nz", "(0, 4, 3)"]),
        ({"nz": -3}, ["nx, ny, nz", "(5, 4, -3)"]),
        ({"nsymbt": -80}, ["extended header", "-80"]),
        ({"nsymbt": 80}, ["truncated"]),
        ({"nsymbt": 2**31 - 1}, ["truncated"]),
        ({"nx": 2**31 - 1, "ny": 2**31 - 1, "nz": 2**31 - 1}, ["truncated", str(4 * (2**31 - 1) ** 3)]),
        ({"ispg": 401, "mz": 1}, ["stack of 3 volumes", "split"]),
        ({"ispg": 401, "mz": 0}, ["stack of several volumes"]),
        ({"origin": (np.nan, 0, 0)}, ["origin", "nan"]),
    ],
)
@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_bad_header_is_refused(tmp_path, fields, words, suffix):
    refused(saved(tmp_path, COMPRESSORS[suffix](by_hand(ramp(), **fields))), *words)


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_content_cut_anywhere_is_refused(tmp_path, suffix):
    content = by_hand(ramp(), extended=b"e" * 80)
    for length in (1, 200, 212, 1000, 1023, 1024, 1100, len(content) - 1):
        refused(saved(tmp_path, COMPRESSORS[suffix](content[:length])))


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_compressed_stream_cut_anywhere_is_refused(tmp_path, suffix):
    content = COMPRESSORS[suffix](by_hand(ramp()))
    for length in range(len(content)):
        refused(saved(tmp_path, content[:length]))


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_compressed_stream_with_a_wrong_byte_is_refused(tmp_path, suffix):
    content = bytearray(COMPRESSORS[suffix](by_hand(ramp())))
    checksum = -8 if suffix == ".gz" else len(content) // 2
    content[checksum] ^= 0x55
    refused(saved(tmp_path, bytes(content)), "damaged")


def test_nan_and_infinite_voxels_are_counted(tmp_path):
    data = ramp()
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    for mode in (2, 12):
        refused(saved(tmp_path, by_hand(data, mode=mode)), "3 of 60 voxels")


@FEW
@given(
    changes=st.dictionaries(st.integers(0, 1023), st.integers(0, 255), min_size=1, max_size=8),
    length=st.integers(0, 1400),
    suffix=st.sampled_from(list(COMPRESSORS)),
)
def test_damaged_files_give_a_volume_or_one_line(changes, length, suffix):
    content = bytearray(by_hand(ramp()))
    for place, value in changes.items():
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder), COMPRESSORS[suffix](bytes(content[:length])))
        volume, line = outcome(path)
    if volume is None:
        assert_names_in_one_line(line, path)
    else:
        assert np.isfinite(volume.data).all()
        assert min(volume.voxel_size) > 0


def peak_memory(act):
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_endless_stream_behind_a_small_header_is_not_unpacked(tmp_path, suffix):
    path = saved(tmp_path, COMPRESSORS[suffix](by_hand(ramp(), tail=bytes(100 << 20))))
    assert peak_memory(lambda: read_volume(path)) < 8 << 20


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_nothing_is_allocated_for_what_a_header_only_claims(tmp_path, suffix):
    path = saved(tmp_path, COMPRESSORS[suffix](by_hand(ramp(), nx=1500, ny=1500, nz=1500)))
    assert peak_memory(lambda: refused(path, "truncated")) < 8 << 20


def test_file_beyond_memory_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, by_hand(ramp()))
    monkeypatch.setattr(np, "ascontiguousarray", lambda *_: (_ for _ in ()).throw(MemoryError))
    refused(path, "memory")


# Writing

VOLUME = Volume(ramp(), (1.0, 1.25, 2.5), (-3.5, 4.0, 0.5))


@FEW
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    voxel_size=st.tuples(*[st.floats(0.1, 20.0)] * 3),
    origin=st.tuples(*[st.floats(-500.0, 500.0)] * 3),
    nstart=st.tuples(*[st.integers(-300, 300)] * 3),
    suffix=st.sampled_from(list(COMPRESSORS)),
    seed=st.integers(0, 9),
)
def test_round_trip(shape, voxel_size, origin, nstart, suffix, seed):
    data = np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)
    volume = Volume(data, voxel_size, origin, nstart, (90.0, 95.0, 90.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out.mrc{suffix}"
        write_volume(volume, path)
        again = read_volume(path)
        assert is_valid(path)
        theirs = mrcfile.read(path)
    np.testing.assert_array_equal(again.data, data)
    np.testing.assert_array_equal(theirs, data)
    np.testing.assert_allclose(again.voxel_size, voxel_size, rtol=2e-7)
    np.testing.assert_allclose(again.origin, origin, rtol=2e-7, atol=1e-30)
    assert again.cell_angles == (90.0, 95.0, 90.0)


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_written_header_is_complete(tmp_path, suffix):
    path = tmp_path / f"out.map{suffix}"
    write_volume(VOLUME, path)
    header = raw_header(path)
    assert is_valid(path)
    assert (header.nx, header.ny, header.nz, header.mx, header.my, header.mz) == (5, 4, 3, 5, 4, 3)
    assert (header.mode, header.ispg, header.mapc, header.mapr, header.maps) == (2, 1, 1, 2, 3)
    assert header.cella.item() == (5.0, 5.0, 7.5)
    assert header.cellb.item() == (90.0, 90.0, 90.0)
    assert header.origin.item() == (-3.5, 4.0, 0.5)
    assert (header.dmin, header.dmax, header.dmean) == (0, 59, 29.5)
    assert header.rms == pytest.approx(((60**2 - 1) / 12) ** 0.5)  # of the integers 0..59
    assert read_header(path).labels == (f"Created by morphot_jax {morphot_jax.__version__}",)


def test_suffix_chooses_the_compression(tmp_path):
    starts = {"a.mrc": b"\5\0\0\0", "a.mrc.gz": b"\x1f\x8b\x08", "a.map.BZ2": b"BZh"}
    for name, start in starts.items():
        write_volume(VOLUME, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_equal_volumes_give_equal_bytes(tmp_path, monkeypatch, suffix):
    first, second = tmp_path / f"a.mrc{suffix}", tmp_path / f"b.mrc{suffix}"
    write_volume(VOLUME, first)
    monkeypatch.setattr(time, "time", lambda: 1.5e9)
    write_volume(VOLUME, second)
    assert first.read_bytes() == second.read_bytes()


def test_nstart_convention_is_kept(tmp_path):
    source = saved(tmp_path, by_hand(ramp(), voxel_size=(1.1, 1.3, 2.7), axes=(3, 1, 2), nxstart=-7, nzstart=50))
    write_volume(read_volume(source), tmp_path / "out.mrc")
    header = raw_header(tmp_path / "out.mrc")
    assert (header.nxstart, header.nystart, header.nzstart) == (0, 50, -7)
    assert header.origin.item() == (0, 0, 0)
    assert read_volume(tmp_path / "out.mrc").origin == pytest.approx((0.0, 65.0, -18.9))


def test_origin_convention_is_kept(tmp_path):
    source = saved(tmp_path, by_hand(ramp(), origin=(4, 5, 6), nxstart=-7))
    write_volume(read_volume(source), tmp_path / "out.mrc")
    header = raw_header(tmp_path / "out.mrc")
    assert (header.nxstart, header.origin.item()) == (-7, (4, 5, 6))


@pytest.mark.parametrize("origin", [(0.0, 0.0, 0.0), (1e-60, 0.0, 0.0)])
def test_zero_origin_is_not_shadowed_by_an_old_nstart(tmp_path, origin):
    write_volume(replace(VOLUME, origin=origin, nstart=(5, 5, 5)), tmp_path / "out.mrc")
    assert read_volume(tmp_path / "out.mrc").origin == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("dtype", ["f8", ">f4", "f2"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_any_float_layout_is_written(tmp_path, dtype, layout):
    write_volume(VOLUME.with_data(np.asarray(ramp(), dtype, order=layout)), tmp_path / "out.mrc")
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "out.mrc"), ramp())


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (VOLUME.with_data(np.full((2, 2, 2), 1e300)), ["8 of 8 voxels"]),
        (replace(VOLUME, voxel_size=(1.0, 1e-60, 1.0)), ["(1.0, 1e-60, 1.0)"]),
        (replace(VOLUME, voxel_size=(1.0, 1e300, 1.0)), ["1e+300"]),
        (replace(VOLUME, origin=(0.0, 1e300, 0.0)), ["origin", "1e+300"]),
    ],
)
def test_unwritable_volume_is_refused_and_leaves_nothing(tmp_path, volume, words):
    refused(tmp_path / "out.mrc", *words, act=lambda path: write_volume(volume, path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["a.mrc", None, VOLUME.data, [VOLUME]])
def test_only_a_volume_is_written(unchecked, tmp_path, given):
    with pytest.raises(InputError, match=r"^write_volume needs a map \(Volume\), and got [^\n]*$"):
        write_volume(given, tmp_path / "out.mrc")
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_overwritten_on_request_only(tmp_path):
    path = saved(tmp_path, b"precious")
    refused(path, "exists", act=lambda path: write_volume(VOLUME, path))
    assert path.read_bytes() == b"precious"
    write_volume(VOLUME, path, overwrite=True)
    np.testing.assert_array_equal(read_volume(path).data, VOLUME.data)
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_places_are_refused(tmp_path):
    plain = saved(tmp_path, b"", "plain")
    for path in (tmp_path / "none" / "out.mrc", plain / "out.mrc"):
        refused(path, "cannot write", act=lambda path: write_volume(VOLUME, path))
    refused(tmp_path, "folder", act=lambda path: write_volume(VOLUME, path, overwrite=True))


def disk_full(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, suffix, step):
    path = saved(tmp_path, b"precious", f"out.mrc{suffix}")
    monkeypatch.setattr(os, step, disk_full)
    refused(path, "No space left", act=lambda path: write_volume(VOLUME, path, overwrite=True))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"precious"


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_volume(VOLUME, tmp_path / "out.mrc")
    assert list(tmp_path.iterdir()) == []


WRITE_WITH_SMALL_FILES_ONLY = """
import resource, sys
import numpy as np
from morphot_jax import InputError, Volume, write_volume
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    write_volume(Volume(np.ones((3, 4, 5), np.float32), (1.0, 1.0, 1.0)), sys.argv[1])
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", list(COMPRESSORS))
def test_error_of_the_disk_itself_is_one_line(tmp_path, suffix):
    """In a separate process, whose files the system limits to 64 bytes."""
    pytest.importorskip("resource")
    path = tmp_path / f"out.mrc{suffix}"
    command = [sys.executable, "-c", WRITE_WITH_SMALL_FILES_ONLY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert str(path) in done.stdout
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_new_file_has_the_usual_rights(tmp_path):
    write_volume(VOLUME, tmp_path / "out.mrc")
    (tmp_path / "plain").touch()
    assert (tmp_path / "out.mrc").stat().st_mode == (tmp_path / "plain").stat().st_mode


def unstamped(path, **changes):
    """A map in a file that does not say that it is one."""
    write_volume(volume_of(blob((5, 6, 7), (2, 3, 3), 1.0)), path)
    content = bytearray(path.read_bytes())
    content[208:212] = bytes(4)
    for name, value in changes.items():
        offset = {"nx": 0, "mode": 12, "mapc": 64, "nsymbt": 92}[name]
        content[offset : offset + 4] = int(value).to_bytes(4, "little", signed=True)
    path.write_bytes(content)
    return path


def test_a_map_without_a_stamp_is_read_with_a_warning(tmp_path):
    path = unstamped(tmp_path / "a.mrc")
    with pytest.warns(InputWarning, match=r"a.mrc' does not say that it is a map \(no 'MAP ' at byte 208\)"):
        found = read_volume(path)
    np.testing.assert_array_equal(found.data, volume_of(blob((5, 6, 7), (2, 3, 3), 1.0)).data)


@pytest.mark.parametrize(
    "damage",
    [{"nx": 6}, {"nx": -7}, {"mode": 7}, {"mode": 1}, {"mapc": 2}, {"nsymbt": 4}, {"nsymbt": -1}],
)
def test_what_has_neither_a_stamp_nor_a_sound_header_is_no_map(tmp_path, damage):
    with pytest.raises(InputError, match="it is not an MRC or CCP4 map"):
        read_volume(unstamped(tmp_path / "a.mrc", **damage))


@pytest.mark.parametrize("columns", [6, 7])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_voxels_of_four_bits_are_read(tmp_path, columns, order):
    """Two a byte, the first in the lower half; a line of an odd number ends with half a byte."""
    in_file = np.random.default_rng(1).integers(0, 16, (4, 5, columns), np.uint8)
    padded = np.pad(in_file, ((0, 0), (0, 0), (0, columns % 2)))
    path = tmp_path / "a.mrc"
    write_volume(Volume(in_file.astype(np.float32), (2.0, 2.0, 2.0)), path)
    header = bytearray(path.read_bytes()[:1024])
    header[12:16] = (101).to_bytes(4, "little")
    for place, axis in zip((64, 68, 72), order, strict=True):
        header[place : place + 4] = axis.to_bytes(4, "little")
    path.write_bytes(bytes(header) + (padded[..., ::2] | (padded[..., 1::2] << 4)).tobytes())
    found = read_volume(path).data
    axes = [order[::-1].index(axis) for axis in (3, 2, 1)]
    np.testing.assert_array_equal(found, in_file.transpose(axes))
    assert read_header(path).voxel_type == "uint4"
