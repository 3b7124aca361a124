"""Devices and memory; facts of other machines are replaced by test values."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from helpers import COMMAND
from morphot_jax import write_volume
from morphot_jax.system import devices, memory
from morphot_jax.system.errors import InputError
from shapes import blob, volume_of

GIB = 2**30


def test_auto_is_what_jax_prefers():
    assert devices.pick_device("auto") == jax.devices()[0]


def test_cpu_is_always_there():
    assert devices.pick_device("cpu").platform == "cpu"


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_missing_device_is_refused_with_those_found(kind):
    try:
        jax.devices(kind)
    except RuntimeError:
        pass
    else:
        pytest.skip(f"there is a {kind} here")
    with pytest.raises(InputError, match=f"no {kind} device.*finds: cpu") as caught:
        devices.pick_device(kind)
    assert "\n" not in str(caught.value)


def test_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="device is 'npu': give auto, cpu, gpu or tpu"):
        devices.pick_device("npu")


@pytest.mark.parametrize(
    ("platform", "kind", "words"), [("cpu", "cpu", "cpu"), ("gpu", "NVIDIA H100", "gpu: NVIDIA H100")]
)
def test_device_in_words(platform, kind, words):
    assert devices.describe(SimpleNamespace(platform=platform, device_kind=kind)) == words


def test_half_of_what_an_accelerator_has_free_is_usable():
    stats = {"bytes_limit": 80 * GIB, "bytes_in_use": 20 * GIB}
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    assert devices.usable_memory(device) == 30 * GIB
    del stats["bytes_in_use"]
    assert devices.usable_memory(device) == 40 * GIB


@pytest.mark.parametrize("stats", [None, {}])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_half_of_what_the_machine_has_free_is_usable_elsewhere(monkeypatch, platform, stats):
    device = SimpleNamespace(platform=platform, memory_stats=lambda: stats)
    monkeypatch.setattr(memory, "free", lambda: 4 * GIB)
    assert devices.usable_memory(device) == 2 * GIB
    monkeypatch.setattr(memory, "free", lambda: None)
    assert devices.usable_memory(device) is None


def test_compiled_code_is_kept_for_the_next_run(tmp_path):
    """The second run of the command finds everything that the first compiled; neither prints anything."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    kept = []
    for run in ("first", "second"):
        arguments = "morph", "sample:adk-open", "sample:adk-closed", "--grid", "16", "--frames", "3", "-q"
        done = subprocess.run(
            [*COMMAND, *arguments, "-o", str(tmp_path / run)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
        kept.append({path.name for path in (tmp_path / "cache" / "morphot_jax").glob("*/*-cache")})
    assert kept[0]
    assert kept[1] == kept[0]


def test_runs_go_on_without_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before, said = jax.config.jax_compilation_cache_dir, []
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert devices.keep_compilations(said.append) is None
        assert jax.config.jax_compilation_cache_dir is None
        assert not jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        jax.config.update("jax_compilation_cache_dir", before)
    assert [text.endswith("set XDG_CACHE_HOME") for text in said] == [True]
    assert str(tmp_path / "file" / "morphot_jax") in said[0]


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_a_run_without_a_cache_says_one_line(tmp_path, variable):
    """Other libraries had a page of warnings."""
    (tmp_path / "file").write_text("not a folder")
    for name, x in (("a", 5), ("b", 6)):
        write_volume(volume_of(blob((10, 11, 12), (5, 5, x), 1.4, 1e-4)), tmp_path / f"{name}.mrc")
    variables = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    variables |= {"HOME": str(tmp_path / "file"), "XDG_CONFIG_HOME": str(tmp_path / "file")}
    variables |= {"XDG_CACHE_HOME": str(tmp_path / "file"), variable: str(tmp_path / "file" / "x")}
    command = ("morph", tmp_path / "a.mrc", tmp_path / "b.mrc", "-o", tmp_path / "out", "--frames", 2, "-v")
    arguments = [*COMMAND, *map(str, command)]
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "cannot be written" in text or "atplotlib" in text]
    assert "every run compiles anew" in line
    assert "Warning" not in done.stderr


def test_a_folder_that_was_given_to_jax_is_used():
    assert devices.keep_compilations() == Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
