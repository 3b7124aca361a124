"""Map files made byte by byte, after the format's definition."""

from itertools import product

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}


def ramp(shape=(3, 4, 5)):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def by_hand(
    data, *, mode=2, order="<", axes=(1, 2, 3), voxel_size=(1.5, 1.5, 1.5), extended=b"", tail=b"", **fields
):
    """Bytes of a map file of ``data[z, y, x]``; ``axes`` is mapc, mapr, maps; ``fields`` go to the header."""
    shape_xyz = data.shape[::-1]
    columns, rows, sections = (shape_xyz[axis - 1] for axis in axes)
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    values = {"mode": mode, "map": b"MAP ", "ispg": 1, "cellb": (90, 90, 90), "nsymbt": len(extended)}
    values |= dict(zip(("nx", "ny", "nz", "mx", "my", "mz"), (columns, rows, sections, *shape_xyz), strict=True))
    values |= dict(zip(("mapc", "mapr", "maps"), axes, strict=True))
    values["cella"] = tuple(size * n for size, n in zip(voxel_size, shape_xyz, strict=True))
    values["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    for name, value in (values | fields).items():
        header[name] = value
    voxels = np.empty((sections, rows, columns), np.dtype(MODES.get(mode, "f4")).newbyteorder(order))
    for place in product(range(columns), range(rows), range(sections)):
        xyz = dict(zip(axes, place, strict=True))
        voxels[place[::-1]] = data[xyz[3], xyz[2], xyz[1]]
    return header.tobytes() + extended + voxels.tobytes() + tail
