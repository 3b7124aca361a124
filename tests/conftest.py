"""Fixtures that several test files use, and how tests run JAX and hypothesis."""

import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax
import jaxtyping
import pytest
from hypothesis import settings

from helpers import SHARED_DATA

# Tests neither read nor fill the user's cache of compiled code, in this process or in those that it starts.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
jax.config.update("jax_enable_compilation_cache", False)

# No test fails for being slow: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def shared_data() -> Path:
    """The folder of real maps; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real maps at {SHARED_DATA}")
    return SHARED_DATA


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
