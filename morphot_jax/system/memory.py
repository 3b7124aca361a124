"""Free and used memory: of the machine, of this process's control group, of this process."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
UNKNOWN = (OSError, KeyError, ValueError, AttributeError, ImportError, IndexError)


def free() -> int | None:
    """Bytes that this process can still allocate: the least of the machine's free memory and what limits leave.

    The limits are those of its cgroup (a job's or a container's) and of its address space. None if unknown.
    """
    amounts = []
    for source in (_of_machine, _of_groups, _of_address_space):
        with suppress(*UNKNOWN):
            amounts.append(source())
    known = [amount for amount in amounts if amount is not None]
    return max(0, min(known)) if known else None


def peak() -> int | None:
    """The peak of the main memory that this process has used, in bytes; None if that is unknown."""
    with suppress(*UNKNOWN):
        # getrusage would include the memory of the parent process before the fork.
        status = dict(line.split(":", 1) for line in _read("/proc/self/status").splitlines())
        return int(status["VmHWM"].split()[0]) * 1024
    with suppress(ImportError):
        import resource  # noqa: PLC0415 - not available on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def held() -> int | None:
    """Bytes of main memory that this process uses now; its peak if that is unknown."""
    with suppress(*UNKNOWN):
        return int(_read("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak()


def _of_machine() -> int:
    with suppress(*UNKNOWN):
        fields = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_groups() -> int | None:
    """Bytes that the limits of this process's cgroup and of its parents leave."""
    left = []
    for folder, limit, usage in _groups():
        with suppress(*UNKNOWN):
            left.append(int(_read(str(folder / limit))) - int(_read(str(folder / usage))))
    return min(left, default=None)


def _groups() -> Iterator[tuple[Path, str, str]]:
    """Folders of this process's cgroups, with the names of their files for the limit and the usage."""
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
    import resource  # noqa: PLC0415 - not available on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - int(_read("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
