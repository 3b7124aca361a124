"""The device to compute on, its memory, and the cache of compiled code."""

import atexit
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax

from morphot_jax.system import memory
from morphot_jax.system.errors import INTERRUPTED, InputError
from morphot_jax.system.options import check_word
from morphot_jax.system.reporting import silent
from morphot_jax.system.words import Device

DeviceHandle = Any  # type checkers do not accept jax.Device as a type
KINDS = get_args(Device)
CACHE_BYTES = 2**30
USABLE = 0.5  # share of the free memory that a solve may plan to use


def pick_device(kind: str) -> DeviceHandle:
    """Return the first device of one of ``KINDS``; 'auto' is JAX's own choice. InputError if there is none."""
    check_word("device", kind, KINDS)
    try:
        return jax.devices(None if kind == "auto" else kind)[0]
    except RuntimeError:
        platforms = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise InputError(
            f"there is no {kind} device here (JAX finds: {platforms}): choose one of these, or auto"
        ) from None


def describe(device: DeviceHandle) -> str:
    """Describe the device, such as 'cpu' or 'gpu: NVIDIA H100'."""
    return device.platform if device.platform == device.device_kind else f"{device.platform}: {device.device_kind}"


def keep_compilations(complain: Callable[[str], None] = silent) -> Path | None:
    """Let JAX store compiled code on disk for the next run. Return the folder, or None if nothing is stored.

    ``complain`` gets a sentence if the folder cannot be written; JAX then stores nothing.

    If the user has given JAX a cache folder, that one is used. Otherwise the folder is ``morphot_jax`` in the
    user's cache, with a subfolder for each kind of processor, because compiled code may not run on another. It
    holds at most 1 GiB; the least used code is deleted first. Small functions are stored too: reading one back is
    faster than compiling it (a run takes 2.7 s instead of 3.2 s).
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if given := jax.config.values["jax_compilation_cache_dir"]:
        return Path(given) if _can_write(Path(given)) else _keep_nothing(given, complain)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "morphot_jax" / hashlib.sha256(_processor().encode()).hexdigest()[:12]
    if not _can_write(folder):
        return _keep_nothing(folder, complain)
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _can_write(folder: Path) -> bool:
    """Whether files can be written into a folder; it is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _keep_nothing(folder: Path | str, complain: Callable[[str], None]) -> None:
    complain(f"'{folder}' cannot be written, so every run compiles anew for some seconds: set XDG_CACHE_HOME")
    jax.config.update("jax_enable_compilation_cache", False)


def leave_at_once() -> None:
    """Make the process exit with the code of an interrupt, without freeing the memory of JAX's threads.

    JAX's threads go on computing after an interrupt; they crash when the interpreter frees their memory.
    """

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(INTERRUPTED)

    atexit.register(leave)


def _processor() -> str:
    """What compiled code depends on: JAX, the machine and, if known, the processor's instruction sets."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{jax.__version__} {platform.machine()} {flags}"


def usable_memory(device: DeviceHandle) -> int | None:
    """Bytes that a solve may plan to use, half of the free memory; None where that is unknown."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(USABLE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    free = memory.free()
    return None if free is None else int(USABLE * free)
