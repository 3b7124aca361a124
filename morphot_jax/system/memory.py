"""How much memory there is: of the machine, of the group of processes that this one is in, of this one."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
UNKNOWN = (OSError, KeyError, ValueError, AttributeError, ImportError, IndexError)


def free() -> int | None:
    """Bytes that this process may still take: the least of what the machine has and what limits allow.

    Limits are those of its cgroup (a job's or a container's) and of its address space. None where nothing is told.
    """
    found = []
    for source in (_of_machine, _of_groups, _of_address_space):
        with suppress(*UNKNOWN):
            found.append(source())
    known = [amount for amount in found if amount is not None]
    return max(0, min(known)) if known else None


def peak() -> int | None:
    """The most bytes that this process has held in main memory; None where that cannot be told."""
    with suppress(*UNKNOWN):
        # What getrusage tells begins with what the process that started this one held.
        status = dict(line.split(":", 1) for line in _read("/proc/self/status").splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    with suppress(ImportError):
        import resource  # noqa: PLC0415 - there is none on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def held() -> int | None:
    """Bytes that this process holds in main memory now; its peak where that cannot be told."""
    with suppress(*UNKNOWN):
        return int(_read("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak()


def _of_machine() -> int:
    with suppress(*UNKNOWN):
        fields = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups() -> int | None:
    """What the limits of this process's cgroup and of those above it leave."""
    left = []
    for folder, limit, usage in _groups():
        with suppress(*UNKNOWN):
            left.append(int(_read(str(folder / limit))) - int(_read(str(folder / usage))))
    return min(left, default=None)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """Folders of this process's groups, and the names of a limit and of what is used, in both versions."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = GROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        place = Path(path.lstrip("/"))
        for part in (place, *place.parents):
            yield root / part, *names


def _of_address_space() -> int | None:
    import resource  # noqa: PLC0415 - there is none on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - int(_read("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
