"""What several test files share: the data beside the repository, double precision, and small maps."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import settings

from morphot_jax.volume import Volume

# Tests neither read nor fill the user's cache of compiled code, in this process or in those that it starts.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
jax.config.update("jax_enable_compilation_cache", False)

# No test fails for being slow: machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
COMMAND = [sys.executable, "-c", "import sys; from morphot_jax.cli import main; sys.exit(main())"]  # morphot
REPORT_KEYS = {  # those that every report.json has
    "version",
    "command",
    "inputs",
    "settings",
    "device",
    "precision",
    "warnings",
    "frames",
    "seconds",
    "peak_memory_bytes",
}


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


def blob(shape, centre, sd, floor=1e-9) -> np.ndarray:
    """A Gaussian of unit mass, axes z y x, exactly zero below ``floor`` of its maximum."""
    grids = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    sd = np.broadcast_to(sd, (3,))
    density = np.exp(-sum((g - c) ** 2 / (2 * s**2) for g, c, s in zip(grids, centre, sd, strict=True)))
    density[density < floor] = 0.0
    return density / density.sum()


def scatter(shape, seed, fill=0.3) -> np.ndarray:
    """Random positive densities on a random part of the box, unit mass."""
    rng = np.random.default_rng(seed)
    density = rng.random(shape) * (rng.random(shape) < fill)
    density.flat[rng.integers(density.size)] += 1.0
    return density / density.sum()


def volume_of(data, mass=1.0) -> Volume:
    """A map of voxels of 2 Å, in a place of its own."""
    return Volume((mass * data).astype(np.float32), (2.0, 2.0, 2.0), (1.0, 2.0, 3.0))


def moments(density) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance along z, y, x of a density taken as a distribution."""
    density = np.asarray(density, np.float64) / np.sum(density, dtype=np.float64)
    means, variances = [], []
    for axis, n in enumerate(density.shape):
        marginal = density.sum(axis=tuple(a for a in range(3) if a != axis))
        index = np.arange(n)
        mean = (marginal * index).sum()
        means.append(mean)
        variances.append((marginal * (index - mean) ** 2).sum())
    return np.array(means), np.array(variances)


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
