"""Density maps in MRC2014 and CCP4 files, plain, gzip or bzip2: read, write, inspect the header.

The format is described at https://www.ccpem.ac.uk/mrc_format/mrc2014.php. The code below relies on these facts:

- ``nx, ny, nz`` and ``nxstart, nystart, nzstart`` count along columns, rows and sections of the file;
  ``mx, my, mz``, the cell and ORIGIN belong to x, y, z; ``mapc, mapr, maps`` join the two.
- voxel size = cell / m; position of the first voxel = ORIGIN if it is non-zero, else nstart * voxel size.

Headers are parsed with mrcfile's ``HEADER_DTYPE`` and checked here: a wrong header must be refused before memory
of the size that it claims is allocated, with a message that tells the user what to do.
"""

import bz2
import gzip
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float
from mrcfile.constants import MAP_ID, MAP_ID_OFFSET_BYTES, VOLUME_SPACEGROUP
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import (
    machine_stamp_from_byte_order,
    printable_string_from_bytes,
    spacegroup_is_volume_stack,
)

from morphot_jax import __version__
from morphot_jax.maps.check import one_map
from morphot_jax.maps.volume import Volume
from morphot_jax.system import memory
from morphot_jax.system.errors import InputError, InputWarning
from morphot_jax.system.files import complete_file, instead_of
from morphot_jax.system.reporting import Report, silent

HEADER_BYTES = HEADER_DTYPE.itemsize
FORMAT_VERSION = 20141
MACHINE_STAMP_OFFSET_BYTES = 212
MACHINE_STAMP_BIG_ENDIAN = b"\x11\x11"
VOXEL_TYPES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16", 101: "uint4"}
UNSUPPORTED_MODES = {3: "complex integers", 4: "complex floats", 16: "RGB bytes"}
HALF_BYTES = 101  # the mode of two voxels a byte: the first in its lower half, every line in whole bytes
OUTPUT_MODE = 2
IMOD_STAMP = 1146047817
IMOD_STAMP_AND_FLAGS_OFFSETS_BYTES = (152, 156)
IMOD_SIGNED_BYTES = 1
MAGICS = {"gzip": b"\x1f\x8b\x08", "bzip2": b"BZh"}
OPENERS = {"gzip": gzip.open, "bzip2": bz2.open, None: open}
SUFFIXES = {".gz": "gzip", ".bz2": "bzip2"}
GZIP_LEVEL = 6
LABEL_BYTES = 80
PLACE_TOLERANCE = 1e-3  # voxels
CHUNK_BYTES = 1 << 20
SMALL_BYTES = 64 << 20  # any file may unpack to this size
MOST_UNPACKED = 200  # times its own size; masked maps shrink to a twentieth, zeros alone to a thousandth
COPY_AGAIN = "copy or download it again"

ByteOrder = Literal["little", "big"]
VoxelSize = tuple[float, float, float] | float


@dataclass(frozen=True)
class MapHeader:
    """The header of a map file, with all triples along x, y, z whatever the file's axis order.

    - ``shape``: number of voxels along z, y, x.
    - ``mode``, ``voxel_type``, ``byte_order``: how voxels are stored, such as 2, "float32", "little".
    - ``axis_order``: the header's mapc, mapr, maps (1 = x, 2 = y, 3 = z).
    - ``voxel_size``: Å along x, y, z; None if the header gives none.
    - ``origin_field``: ORIGIN in Å along x, y, z, as stored; ``nstart``: first grid index along x, y, z.
    - ``cell_angles``: alpha, beta, gamma in degrees.
    - ``extended_header_bytes``, ``extended_header_type``: the size and the four-letter type of that block.
    - ``compression``: "gzip", "bzip2" or None.
    """

    shape: tuple[int, int, int]
    mode: int
    voxel_type: str
    byte_order: ByteOrder
    axis_order: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None
    origin_field: tuple[float, float, float]
    nstart: tuple[int, int, int]
    cell_angles: tuple[float, float, float]
    space_group: int
    labels: tuple[str, ...]
    extended_header_bytes: int
    extended_header_type: str
    compression: str | None

    @property
    def origin(self) -> tuple[float, float, float]:
        """Position of voxel (0, 0, 0) in Å along x, y, z: ORIGIN if non-zero, else nstart * voxel_size.

        An unknown voxel size counts as zero.
        """
        if any(self.origin_field):
            return self.origin_field
        x, y, z = (n * size for n, size in zip(self.nstart, self.voxel_size or (0.0, 0.0, 0.0), strict=True))
        return x, y, z

    @property
    def data_bytes(self) -> int:
        """Size of the block of voxels, uncompressed."""
        columns = self.shape[3 - self.axis_order[0]]
        lines = math.prod(self.shape) // columns
        return lines * (-(-columns // 2) if self.mode == HALF_BYTES else columns * self.stored.itemsize)

    @property
    def file_bytes(self) -> int:
        """Size of the whole file, uncompressed."""
        return HEADER_BYTES + self.extended_header_bytes + self.data_bytes

    @property
    def stored(self) -> np.dtype:
        """How voxels are stored; pairs of 4-bit ones as bytes."""
        return np.dtype("uint8" if self.mode == HALF_BYTES else self.voxel_type).newbyteorder(self.byte_order)


def read_volume(
    path: str | os.PathLike[str], *, voxel_size: VoxelSize | None = None, report: Report = silent
) -> Volume:
    """Read a density map: MRC2014 or CCP4, any axis order, either byte order, modes 0, 1, 2, 6, 12 and 101.

    Compression by gzip or bzip2 is recognised by the content, not by the name. ``voxel_size`` (Å; one number, or
    along x, y, z) replaces the header's. The data become C-contiguous native float32 ``z y x``; ``origin`` is
    the header's ORIGIN if non-zero, else nstart * voxel_size, along the cell axes.
    ``report`` gets the bytes of voxels that have been read and their total.

    Conventions where files disagree with each other:

    - Bytes (mode 0) are signed, unless an IMOD stamp without its signed flag marks them as unsigned.
    - mz = 1 with several voxels along z: the cell's z edge is that of one voxel or of the whole box,
      whichever gives a voxel size closer to that along x and y.
    - Bytes after the last voxel are ignored.
    - If machine stamp and axis order contradict each other, the axis order decides the byte order.
    - A file without the stamp 'MAP ' is read, with an ``InputWarning``, if its header is sound and fits its size.

    Raises ``InputError`` with one line when the file is missing, is not a map, is shorter than its header says,
    is damaged, has an unsupported mode or no voxel size, is a stack of volumes, or holds NaN or infinities.
    """
    path = Path(path)
    with _naming(path, "read"), _open(path) as (stream, compression):
        header = _header_of(stream, path, compression)
        if voxel_size is not None:
            header = replace(header, voxel_size=_checked_voxel_size(voxel_size))
        if header.voxel_size is None:
            raise InputError("its header gives no voxel size; give it with --apix (Python: voxel_size=), in Å")
        data = _to_zyx(_read_voxels(stream, path, header, report), header)
        return Volume(data, header.voxel_size, header.origin, header.nstart, header.cell_angles)


def read_header(path: str | os.PathLike[str]) -> MapHeader:
    """Read and check the header of a map file, without its voxels.

    Raises ``InputError`` as ``read_volume`` does, but not for faults of the voxels or a missing voxel size.
    """
    path = Path(path)
    with _naming(path, "read"), _open(path) as (stream, compression):
        return _header_of(stream, path, compression)


def read_stored(
    path: str | os.PathLike[str], *, report: Report = silent
) -> tuple[MapHeader, Float[np.ndarray, "z y x"]]:
    """Read the header of a map file and its voxels as they are stored, NaN included, to describe the file.

    Raises ``InputError`` as ``read_volume`` does, but not for voxels that are not finite or a missing voxel size.
    """
    path = Path(path)
    with _naming(path, "read"), _open(path) as (stream, compression):
        header = _header_of(stream, path, compression)
        return header, _to_zyx(_read_voxels(stream, path, header, report), header)


def check_file(path: str | os.PathLike[str]) -> None:
    """Read a map file to its end without keeping it; InputError as from ``read_volume`` if it is no whole map."""
    path = Path(path)
    with _naming(path, "read"), _open(path) as (stream, compression):
        header = _header_of(stream, path, compression)
        _check_packing(path, header)
        for _ in _pieces(stream, path, header):
            pass


def write_volume(volume: Volume, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a density map as MRC2014: mode 2, little-endian, axes x y z, compressed by suffix .gz or .bz2.

    The origin is written as the input file gave it: as nstart with ORIGIN zero if the volume's non-zero
    nstart gives its origin, else as ORIGIN in Å. The header's cell is the box, voxel_size * shape. The file
    gets its name only when it is complete; equal volumes give equal bytes.

    Raises ``InputError`` with one line when the file exists and ``overwrite`` is false, when it cannot be
    written, when it is given anything but a ``Volume``, and when the volume has voxels, a box or an origin that
    float32 cannot hold.
    """
    one_map(volume, "write_volume needs a map")
    path = Path(path)
    with _naming(path, "write"):
        if path.is_dir():
            raise InputError("it is a folder; name a file in it")
        if path.exists() and not overwrite:
            raise InputError("the file exists; choose another name or ask for overwriting")
        with np.errstate(over="ignore"):
            data = np.ascontiguousarray(volume.data, dtype="<f4")
        if bad := data.size - np.count_nonzero(np.isfinite(data)):
            raise InputError(f"{bad} of {data.size} voxels are beyond what float32 holds; scale the densities")
        header = _header_for(volume, data)
        with complete_file(path) as file, _compressed(file, SUFFIXES.get(path.suffix.lower())) as stream:
            stream.write(header.tobytes())
            stream.write(data.data.cast("B"))


@contextmanager
def _naming(path: Path, action: str) -> Iterator[None]:
    """Turn any error that a bad file causes into an ``InputError`` that names the file."""
    try:
        yield
    except InputError as error:
        reason = str(error)
    except MemoryError:
        reason = "it does not fit in memory; crop or bin it first"
    except (EOFError, zlib.error):
        reason = f"its compressed content is cut short or damaged; {COPY_AGAIN}"
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report bad content without an errno
            reason = f"its compressed content is damaged ({error}); {COPY_AGAIN}"
        else:
            reason = f"{error.strerror}; check the name, the rights and the disk"
    else:
        return
    raise InputError(f"cannot {action} {str(path)!r}: {reason}") from None


@contextmanager
def _open(path: Path) -> Iterator[tuple[BufferedIOBase, str | None]]:
    if path.is_dir():
        raise InputError("it is a folder; name a map file in it")
    if not path.exists():
        raise InputError(f"there is no such file{instead_of(path)}")
    if not path.is_file():  # a pipe would block, a device never ends
        raise InputError("it is not a regular file; copy the map to a file first")
    with open(path, "rb") as file:
        start = file.read(max(map(len, MAGICS.values())))
    compression = next((name for name, magic in MAGICS.items() if start.startswith(magic)), None)
    with OPENERS[compression](path, "rb") as stream:
        yield cast(BufferedIOBase, stream), compression


def _header_of(stream: BufferedIOBase, path: Path, compression: str | None) -> MapHeader:
    """The header at the beginning of a file. InputWarning for a map that does not say that it is one."""
    block = stream.read(HEADER_BYTES)
    if block[MAP_ID_OFFSET_BYTES:][:3] == MAP_ID[:3]:
        return _parse_header(block, compression)
    refusal = InputError("it is not an MRC or CCP4 map (no 'MAP ' at byte 208); give an .mrc or .map file")
    if len(block) < HEADER_BYTES:
        raise refusal
    try:
        header = _parse_header(block, compression)
    except InputError:
        raise refusal from None
    if compression is not None or path.stat().st_size != header.file_bytes:
        raise refusal
    message = f"'{path}' does not say that it is a map (no 'MAP ' at byte 208); its header is sound, so it is read"
    warnings.warn(message, InputWarning, stacklevel=3)
    return header


def _parse_header(block: bytes, compression: str | None) -> MapHeader:
    if len(block) < HEADER_BYTES:
        raise InputError(f"it ends after {len(block)} of the header's {HEADER_BYTES} bytes; {COPY_AGAIN}")
    record, byte_order = _record(block)
    mode = int(record["mode"])
    axis_order = _integers(record, "mapc", "mapr", "maps")
    counts = _integers(record, "nx", "ny", "nz")
    _check_fields(record, mode, axis_order, counts)
    shape = _along_xyz(counts, axis_order)
    origin = _floats(record["origin"])
    if not all(map(math.isfinite, origin)):
        raise InputError(f"its header has the origin {origin}; repair ORIGIN in the header, or {COPY_AGAIN}")
    angles = _floats(record["cellb"])
    return MapHeader(
        shape=(shape[2], shape[1], shape[0]),
        mode=mode,
        voxel_type="uint8" if mode == 0 and _imod_unsigned(block, byte_order) else VOXEL_TYPES[mode],
        byte_order=byte_order,
        axis_order=axis_order,
        voxel_size=_voxel_size(record, shape),
        origin_field=origin,
        nstart=_along_xyz(_integers(record, "nxstart", "nystart", "nzstart"), axis_order),
        cell_angles=angles if all(0 < angle < 180 for angle in angles) else (90.0, 90.0, 90.0),
        space_group=int(record["ispg"]),
        labels=_labels(record),
        extended_header_bytes=int(record["nsymbt"]),
        extended_header_type=printable_string_from_bytes(bytes(record["exttyp"])).strip(),
        compression=compression,
    )


def _record(block: bytes) -> tuple[np.void, ByteOrder]:
    """Find the header's fields and byte order: mapc is 1, 2 or 3 in the right byte order only."""
    big_first = block[MACHINE_STAMP_OFFSET_BYTES:].startswith(MACHINE_STAMP_BIG_ENDIAN)
    orders: tuple[ByteOrder, ByteOrder] = ("big", "little") if big_first else ("little", "big")
    records = [np.frombuffer(block, HEADER_DTYPE.newbyteorder(order))[0] for order in orders]
    chosen = next((i for i, record in enumerate(records) if 1 <= record["mapc"] <= 3), 0)
    return records[chosen], orders[chosen]


def _check_fields(record: np.void, mode: int, axis_order: tuple[int, ...], counts: tuple[int, ...]) -> None:
    if mode not in VOXEL_TYPES:
        kind = UNSUPPORTED_MODES.get(mode, "unknown")
        raise InputError(f"its mode {mode} ({kind}) is not supported; convert it to mode 2 (32-bit floats)")
    if sorted(axis_order) != [1, 2, 3]:
        raise InputError(f"its axis order mapc, mapr, maps = {axis_order} is not an order of 1, 2, 3; repair it")
    if min(counts) <= 0:
        raise InputError(f"its dimensions nx, ny, nz = {counts} are not positive; {COPY_AGAIN}")
    if record["nsymbt"] < 0:
        raise InputError(f"its extended header has {record['nsymbt']} bytes; {COPY_AGAIN}")
    mz, space_group = int(record["mz"]), int(record["ispg"])
    if spacegroup_is_volume_stack(space_group) and mz != counts[2]:
        number = counts[2] // mz if mz > 0 else "several"
        raise InputError(f"it is a stack of {number} volumes (space group {space_group}); split it into maps")


def _integers(record: np.void, *names: str) -> tuple[int, int, int]:
    a, b, c = (int(record[name]) for name in names)
    return a, b, c


def _floats(group: np.void) -> tuple[float, float, float]:
    a, b, c = (float(value) for value in group.item())
    return a, b, c


def _along_xyz(values: tuple[int, int, int], axis_order: tuple[int, int, int]) -> tuple[int, int, int]:
    """Reorder counts along columns, rows, sections to x, y, z."""
    x, y, z = (values[axis_order.index(axis)] for axis in (1, 2, 3))
    return x, y, z


def _voxel_size(record: np.void, counts: tuple[int, int, int]) -> tuple[float, float, float] | None:
    cell, grid = _floats(record["cella"]), _integers(record, "mx", "my", "mz")
    if min(grid) <= 0 or not all(math.isfinite(edge) and edge > 0 for edge in cell):
        return None
    x, y, z = (edge / steps for edge, steps in zip(cell, grid, strict=True))
    if grid[2] == 1 < counts[2]:
        # written as an image stack: programs disagree whether the z edge is that of one section or of all sections
        z = min(z, z / counts[2], key=lambda size: abs(math.log(size / math.sqrt(x * y))))
    return x, y, z


def _checked_voxel_size(voxel_size: VoxelSize) -> tuple[float, float, float]:
    x, y, z = voxel_size if isinstance(voxel_size, tuple) else (voxel_size,) * 3
    if not all(math.isfinite(size) and size > 0 for size in (x, y, z)):
        raise InputError(f"the voxel size {voxel_size} is not positive and finite; give it in Å, as in 1.06")
    return float(x), float(y), float(z)


def _imod_unsigned(block: bytes, byte_order: ByteOrder) -> bool:
    """Tell whether IMOD marked the bytes of a mode 0 file as unsigned, as it wrote them before MRC2014."""
    stamp, flags = (int.from_bytes(block[i : i + 4], byte_order) for i in IMOD_STAMP_AND_FLAGS_OFFSETS_BYTES)
    return stamp == IMOD_STAMP and not flags & IMOD_SIGNED_BYTES


def _labels(record: np.void) -> tuple[str, ...]:
    used = record["label"][: max(0, int(record["nlabl"]))]
    texts = (printable_string_from_bytes(bytes(label)).strip() for label in used)
    return tuple(text for text in texts if text)


def _read_voxels(stream: BufferedIOBase, path: Path, header: MapHeader, report: Report) -> bytearray:
    _check_packing(path, header)
    _check_memory(path, header)
    block = bytearray()
    for piece in _pieces(stream, path, header):
        block += piece
        report(len(block), header.data_bytes)
    return block


def _pieces(stream: BufferedIOBase, path: Path, header: MapHeader) -> Iterator[bytes]:
    """The voxels in pieces, since the size of a compressed file does not tell the size of its content."""
    start = HEADER_BYTES + header.extended_header_bytes
    available = path.stat().st_size - start if header.compression is None else header.data_bytes
    if available >= header.data_bytes:
        stream.seek(start)
        available = 0
        while piece := stream.read(min(CHUNK_BYTES, header.data_bytes - available)):
            available += len(piece)
            yield piece
        stream.read(1)  # past the last voxel, where gzip compares its checksum
    if available < header.data_bytes:
        size = f"{' x '.join(map(str, header.shape))}, mode {header.mode}"
        expected = f"its header ({size}) asks for {header.data_bytes} bytes of voxels"
        raise InputError(f"it is truncated: {expected} and the file holds {max(available, 0)}; {COPY_AGAIN}")


def _check_packing(path: Path, header: MapHeader) -> None:
    """Refuse a small compressed file that would unpack to a huge one."""
    packed, unpacked = path.stat().st_size, header.file_bytes
    if header.compression is not None and unpacked > max(SMALL_BYTES, MOST_UNPACKED * packed):
        unusual = f"its {packed} bytes would unpack to {header.data_bytes} bytes of voxels, or it is truncated"
        raise InputError(f"{unusual}; if you trust it, unpack it yourself")


def _check_memory(path: Path, header: MapHeader) -> None:
    """Refuse a map that does not fit in memory."""
    packed, unpacked, free = path.stat().st_size, header.file_bytes, memory.free()
    needed = header.data_bytes + 4 * math.prod(header.shape)
    if free is not None and needed > free and (header.compression is not None or packed >= unpacked):
        sizes = f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        raise InputError(f"it does not fit in memory: its voxels take {sizes}; crop or bin it first")


def _to_zyx(block: bytearray, header: MapHeader) -> Float[np.ndarray, "z y x"]:
    slowest_first = header.axis_order[::-1]
    *lines, columns = (header.shape[3 - axis] for axis in slowest_first)
    in_file = np.frombuffer(block, header.stored).reshape(*lines, -1)
    if header.mode == HALF_BYTES:
        in_file = np.stack([in_file & 15, in_file >> 4], axis=-1).reshape(*lines, -1)[..., :columns]
    zyx = in_file.transpose([slowest_first.index(axis) for axis in (3, 2, 1)])
    return np.ascontiguousarray(zyx, np.float32)


def _header_for(volume: Volume, data: Float[np.ndarray, "z y x"]) -> np.void:
    z, y, x = volume.shape
    header = np.zeros(1, HEADER_DTYPE.newbyteorder("<"))[0]
    with np.errstate(over="ignore"):  # reported below
        header["cella"] = tuple(np.multiply(volume.voxel_size, (x, y, z)))
        header["origin"], nstart = _place(volume)
    if not all(math.isfinite(edge) and edge > 0 for edge in _floats(header["cella"])):
        box = f"voxel size {volume.voxel_size} and shape {volume.shape}"
        raise InputError(f"{box} make a box that a header cannot hold; give the voxel size in Å")
    if not all(map(math.isfinite, _floats(header["origin"]))):
        raise InputError(f"the origin {volume.origin} does not fit into a header; give it in Å")
    header["cellb"] = volume.cell_angles
    header["nx"], header["ny"], header["nz"] = header["mx"], header["my"], header["mz"] = x, y, z
    header["nxstart"], header["nystart"], header["nzstart"] = nstart
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"], header["ispg"], header["nversion"] = OUTPUT_MODE, VOLUME_SPACEGROUP, FORMAT_VERSION
    header["map"], header["machst"] = MAP_ID, machine_stamp_from_byte_order("<")
    header["dmin"], header["dmax"] = data.min(), data.max()
    header["dmean"], header["rms"] = data.mean(dtype=np.float64), data.std(dtype=np.float64)
    header["nlabl"] = 1
    header["label"][0] = f"Created by morphot_jax {__version__}"[:LABEL_BYTES].ljust(LABEL_BYTES)
    return header


def _place(volume: Volume) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Express the origin as the header's ORIGIN and nstart, each along x, y, z."""
    origin, from_nstart = np.asarray(volume.origin), np.multiply(volume.nstart, volume.voxel_size)
    tolerance = PLACE_TOLERANCE * min(volume.voxel_size)
    if any(volume.nstart) and (abs(origin - from_nstart) <= tolerance).all():
        return (0.0, 0.0, 0.0), volume.nstart
    # readers fall back to nstart if ORIGIN is zero, so nstart must not contradict a zero origin
    return volume.origin, volume.nstart if origin.astype(np.float32).any() else (0, 0, 0)


def _compressed(file: BufferedIOBase, compression: str | None) -> AbstractContextManager[Any]:
    if compression == "gzip":
        return gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0)
    return bz2.BZ2File(file, "wb") if compression == "bzip2" else nullcontext(file)
