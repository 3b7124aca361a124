"""What the machine offers: the device to compute on, its memory, and what this process has used of it."""

import os
import sys
from typing import Any, get_args

import jax

from morphot_jax.choices import Device
from morphot_jax.errors import InputError

DeviceHandle = Any  # jax.Device is no type to a checker
KINDS = get_args(Device)
USABLE = 0.5  # share of the memory found free that a solve may plan with


def pick_device(kind: str) -> DeviceHandle:
    """The first device of a kind of ``KINDS``; 'auto' takes what JAX prefers. InputError if there is none."""
    if kind not in KINDS:
        raise InputError(f"device '{kind}' is not known: choose one of {', '.join(KINDS)}")
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


def usable_memory(device: DeviceHandle) -> int | None:
    """Bytes that a solve may plan with, half of what is free; None where that cannot be told."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(USABLE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(USABLE * int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        return int(USABLE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def peak_memory() -> int | None:
    """The most bytes that this process has held in main memory; None where that cannot be told."""
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
