"""What the machine offers: the device to compute on, its memory, and a place for compiled code."""

import atexit
import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any, get_args

import jax

from morphot_jax.system import memory
from morphot_jax.system.errors import INTERRUPTED, InputError
from morphot_jax.system.options import check_word
from morphot_jax.system.words import Device

DeviceHandle = Any  # jax.Device is no type to a checker
KINDS = get_args(Device)
CACHE_BYTES = 2**30
USABLE = 0.5  # share of the memory found free that a solve may plan with


def pick_device(kind: str) -> DeviceHandle:
    """The first device of a kind of ``KINDS``; 'auto' takes what JAX prefers. InputError if there is none."""
    check_word("device", kind, KINDS)
    try:
        return jax.devices(None if kind == "auto" else kind)[0]
    except RuntimeError:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise InputError(
            f"there is no {kind} device here (JAX finds: {found}): choose one of these, or auto"
        ) from None


def describe(device: DeviceHandle) -> str:
    """The device in words, such as 'cpu' or 'gpu: NVIDIA H100'."""
    return device.platform if device.platform == device.device_kind else f"{device.platform}: {device.device_kind}"


def keep_compilations() -> Path | None:
    """Let JAX keep what it compiles on disk, for the next run; the folder, or None where it cannot be written.

    A folder that the user gave to JAX is left as it is. Else it is ``morphot_jax`` in the user's cache, one for
    each kind of processor, since compiled code may not run on another; 1 GiB at most, the least used goes first.
    Small pieces are kept too: to read one back takes less than to compile it (2.7 s for a run in place of 3.2 s).
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if chosen := jax.config.values["jax_compilation_cache_dir"]:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "morphot_jax" / hashlib.sha256(_processor().encode()).hexdigest()[:12]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def leave_at_once() -> None:
    """Let the process end, as an interrupted one, without freeing what threads of JAX may still compute with.

    An interrupt leaves them at work, and they crash when the interpreter takes their memory from them.
    """

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(INTERRUPTED)

    atexit.register(leave)


def _processor() -> str:
    """What compiled code depends on: the machine and, where it can be told, the instructions it knows."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return f"{jax.__version__} {platform.machine()} {flags}"


def usable_memory(device: DeviceHandle) -> int | None:
    """Bytes that a solve may plan with, half of what is free; None where that cannot be told."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(USABLE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    room = memory.free()
    return None if room is None else int(USABLE * room)
