"""Files appear complete or not at all; folders that are not empty are left alone."""

import errno
import os

import pytest

from morphot_jax.system.errors import InputError
from morphot_jax.system.files import (
    check_output_folder,
    complete_file,
    make_folder,
    sha256,
    write_bytes,
    write_text,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def disk_full(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_file_takes_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "out.txt"
    with complete_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert names(tmp_path) == ["out.txt"]


def test_old_content_stays_until_the_new_is_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    with complete_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_in_the_block_leaves_what_was_there(tmp_path, error, old):
    path = tmp_path / "out.txt"
    if old is not None:
        path.write_bytes(old)
    before = names(tmp_path)

    def fail():
        with complete_file(path) as file:
            file.write(b"partial")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == before
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(InputError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert names(tmp_path) == ["out.txt"]
    assert path.read_bytes() == b"old"


def test_text_is_written_in_utf8(tmp_path):
    write_text(tmp_path / "out.txt", "1.5 Å\n")
    assert (tmp_path / "out.txt").read_bytes() == b"1.5 \xc3\x85\n"


def test_file_in_no_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="No such file or directory") as caught:
        write_text(tmp_path / "none" / "out.txt", "x")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_sha256_of_known_content(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("overwrite", [False, True])
def test_new_and_empty_folders_take_results(tmp_path, overwrite):
    check_output_folder(tmp_path / "new" / "newer", overwrite=overwrite)
    check_output_folder(tmp_path, overwrite=overwrite)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["file", ".hidden"])
def test_folder_that_holds_something_needs_overwrite(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"not empty.*--overwrite") as caught:
        check_output_folder(tmp_path, overwrite=False)
    assert str(tmp_path) in str(caught.value)
    check_output_folder(tmp_path, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_is_no_output_folder(tmp_path, overwrite):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(InputError, match="is a file"):
        check_output_folder(path, overwrite=overwrite)


def test_folder_under_a_file_is_refused_before_work_starts(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        check_output_folder(tmp_path / "file" / "out", overwrite=False)


def test_folders_are_made_with_those_above_them(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "b"):
        with pytest.raises(InputError, match="cannot make the folder") as caught:
            make_folder(place)
        assert str(place) in str(caught.value)
