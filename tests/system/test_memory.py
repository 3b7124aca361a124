"""Free memory: from files of the machine, from cgroups of both versions, from limits."""

import os
import subprocess
import sys

import numpy as np
import pytest

from morphot_jax.system import memory

MIB = 2**20
MACHINE = {"/proc/meminfo": "MemTotal:       8388608 kB\nMemAvailable:   4194304 kB\n"}
LIMITS = {
    "version 1": {
        "/proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/jobs/7\n0::/\n",
        "/sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes": f"{300 * MIB}\n",
        "/sys/fs/cgroup/memory/jobs/7/memory.usage_in_bytes": f"{100 * MIB}\n",
    },
    "version 2": {
        "/proc/self/cgroup": "0::/jobs/7\n",
        "/sys/fs/cgroup/jobs/7/memory.max": f"{300 * MIB}\n",
        "/sys/fs/cgroup/jobs/7/memory.current": f"{100 * MIB}\n",
    },
    "of a group above": {
        "/proc/self/cgroup": "0::/jobs/7/step\n",
        "/sys/fs/cgroup/jobs/7/step/memory.max": "max\n",
        "/sys/fs/cgroup/jobs/7/step/memory.current": "5\n",
        "/sys/fs/cgroup/jobs/7/memory.max": f"{300 * MIB}\n",
        "/sys/fs/cgroup/jobs/7/memory.current": f"{100 * MIB}\n",
    },
}


@pytest.fixture
def machine(monkeypatch):
    """Replace the files that describe the machine; only files that the test adds exist."""
    files = {}

    def read(path):
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(memory, "_read", read)
    return files


def test_available_memory_of_the_machine_is_read(machine):
    machine.update(MACHINE)
    assert memory.free() == 4096 * MIB


@pytest.mark.parametrize("version", LIMITS)
def test_the_least_limit_counts(machine, version):
    machine.update(MACHINE | LIMITS[version])
    assert memory.free() == 200 * MIB


@pytest.mark.parametrize("text", ["MemTotal: 5 kB\n", "MemAvailable: much\n", None])
def test_without_that_the_machine_s_pages_are_counted(machine, monkeypatch, text):
    if text is not None:
        machine["/proc/meminfo"] = text
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.__getitem__)
    assert memory.free() == 4096 * MIB


def test_a_machine_of_unknown_memory_gives_none(machine, monkeypatch):
    def unknown(_name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert memory.free() is None


def test_a_limit_on_the_address_space_counts():
    resource = pytest.importorskip("resource")
    code = (
        "import resource; from morphot_jax.system import memory;"
        f"resource.setrlimit(resource.RLIMIT_AS, ({400 * MIB}, resource.RLIM_INFINITY)); print(memory.free())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 400 * MIB
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 400 * MIB


def test_the_peak_does_not_include_a_large_parent_process():
    held = np.ones(40_000_000)  # 320 MB
    script = "from morphot_jax.system import memory; print(memory.peak())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < held.nbytes


def test_held_memory_grows_with_arrays_and_the_peak_never_shrinks():
    pytest.importorskip("resource")
    peak, held = memory.peak(), memory.held()
    array = np.ones(64 * MIB, np.uint8)
    assert memory.held() >= held + 60 * MIB
    assert memory.peak() >= max(peak, array.nbytes)
    assert memory.peak() < 2**44  # bytes, not some multiple of them
