"""Fixtures that several test files use, and how tests run JAX and hypothesis."""

import atexit
import ctypes
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax
import jaxtyping
import pytest
from hypothesis import settings

from helpers import SHARED_DATA

# What tests compile is kept for the other processes of this run, workers and commands alike, and goes with it. The
# user's own cache is neither read nor filled.
if "MORPHOT_TESTS_COMPILED" not in os.environ:
    os.environ["MORPHOT_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="morphot-tests-")
    atexit.register(shutil.rmtree, os.environ["MORPHOT_TESTS_COMPILED"], ignore_errors=True)
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": os.environ["MORPHOT_TESTS_COMPILED"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
# Tests compile more than they compute: XLA compiles faster at a low level, by its older emitters. What users run,
# the demo and the documentation, is compiled as usual. XLA ends a process that gives it a flag it does not know.
FLAGS = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
if "XLA_FLAGS" not in os.environ:
    start = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(start, env=os.environ | {"XLA_FLAGS": FLAGS}, capture_output=True, check=False)
    os.environ["XLA_FLAGS"] = FLAGS if known.returncode == 0 else ""
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# No test fails for being slow: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


ROOMS = ("whole", "transport", "morphing", "cli", "runs", "experiments", "prepare", "show", "system", "maps")


def pytest_collection_modifyitems(items):
    """Rooms whose files take longest come first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: ROOMS.index(item.path.parent.name))


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_code():
    """What a file of tests compiled leaves the memory with it, else a worker grows to 5 GB."""
    yield
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":  # the C library keeps what is freed, unless it is asked
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real maps; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real maps at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch):
    """Runs of the command inside a test draw no figures, which take longer than the solve of a small map.

    Tests that look at them are marked ``figures``; those that start a process of their own draw them all.
    """
    if "figures" not in request.keywords:
        monkeypatch.setattr("morphot_jax.show.figures.all_figures", lambda *arguments: {})


@pytest.fixture
def double():
    """JAX in double precision for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked():
    """No types checked at run time, so that wrong arguments come as far as those of a user would."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def count_compilations():
    """A context that counts how often XLA compiles inside it."""

    @contextmanager
    def counting():
        counter = SimpleNamespace(count=0)

        def listen(event: str, duration: float, **_) -> None:
            counter.count += event == "/jax/core/compile/backend_compile_duration"

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield counter
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return counting
