"""A scene: the frames of a trajectory cropped to their surfaces, in units of their levels, coarser where large.

A frame has one level (``levels``). Its surface at f times the level is the one that encloses the volume

    V_t(f) = V_t(1) [(1 - t) V_0(f) / V_0(1) + t V_1(f) / V_1(1)] ,

where V_0 and V_1 are the volumes that the first and the last frame enclose at f times their levels. So surfaces do
not flicker at any f.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from morphot_jax.maps.volume import Volume
from morphot_jax.maps.window import Window, bounding_box
from morphot_jax.prepare.levels import enclosed, level_of_volume
from morphot_jax.system.reporting import Report, silent
from morphot_jax.system.threads import side_by_side

FACTORS = np.geomspace(0.25, 4.0, 17)  # of a level; the middle one is 1
MOST_VOXELS = 8_000_000  # in all frames together
MARGIN = 2  # voxels around the surfaces


@runtime_checkable
class Frames(Protocol):
    """The densities of frames by index, axes z y x: in memory, or read from a file on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Float[np.ndarray, "z y x"]: ...


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames as they are shown.

    - ``densities``: axes ``t z y x``, each frame divided by its level, so that its surface lies at 1.
    - ``levels``: those levels. ``contours``: the densities of the surfaces at ``FACTORS`` times the level.
    - ``voxel_size``, ``origin``: Å along x, y, z. ``coarsened``: voxels of the frames along an edge of one here.
    """

    densities: Float[np.ndarray, "t z y x"] = field(repr=False)
    times: Float[np.ndarray, " t"] = field(repr=False)
    levels: Float[np.ndarray, " t"] = field(repr=False)
    contours: Float[np.ndarray, "t f"] = field(repr=False)
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    coarsened: int

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """The middle of the box, Å along x, y, z."""
        shape = np.array(self.densities.shape[:0:-1])
        return np.array(self.origin) + (shape - 1) * np.array(self.voxel_size) / 2.0

    @cached_property
    def radius(self) -> float:
        """The radius (Å) of the smallest sphere about the middle that holds the surfaces of all frames."""
        places = np.argwhere((self.densities >= 1.0).any(axis=0))[:, ::-1]
        away = places * np.array(self.voxel_size) + np.array(self.origin) - self.centre
        return float(np.linalg.norm(away, axis=1).max(initial=0.0)) + max(self.voxel_size)


def scene_of(
    frames: Frames,
    times: Float[np.ndarray, " t"],
    levels: Float[np.ndarray, " t"],
    template: Volume,
    *,
    most: int = MOST_VOXELS,
    report: Report = silent,
) -> Scene:
    """The frames cropped to all of their surfaces; above ``most`` voxels in all, means over cubes of voxels.

    ``report``: called with the work done and the whole, two units for each frame.
    """
    count = len(levels)
    targets = volumes_along(frames, times, levels)
    inside = np.zeros(template.shape, bool)
    for index, volumes in enumerate(targets):
        report(index, 2 * count)
        frame = frames[index]
        inside |= frame >= level_of_volume(frame, round(float(volumes[0])))
    window = bounding_box(inside)
    size = np.prod([part.stop - part.start + 2 * MARGIN for part in window]) * len(targets)
    edge = max(1, int(np.ceil((size / most) ** (1 / 3))))
    start, cubes = _cubes(window, edge)

    def shown(index: int) -> tuple[Float[np.ndarray, "z y x"], Float[np.ndarray, " f"]]:
        density = _means(frames[index], start, cubes, edge)
        contours = np.array([level_of_volume(density, round(volume / edge**3)) for volume in targets[index]])
        level = contours[len(FACTORS) // 2] or 1.0
        return density / np.float32(level), np.maximum.accumulate(contours) / level

    drawn = side_by_side(shown, range(count), lambda done, total: report(count + done, 2 * count))
    voxel, corner = np.array(template.voxel_size), start[::-1] + (edge - 1) / 2
    return Scene(
        densities=np.stack([density for density, _ in drawn]),
        times=times,
        levels=levels,
        contours=np.stack([contours for _, contours in drawn]),
        voxel_size=_triple(voxel * edge),
        origin=_triple(np.array(template.origin) + corner * voxel),
        coarsened=edge,
    )


def volumes_along(
    frames: Frames, times: Float[np.ndarray, " t"], levels: Float[np.ndarray, " t"]
) -> Float[np.ndarray, "t f"]:
    """V_t(f) in voxels, for every frame and each of ``FACTORS``."""
    ends = []
    for index in (0, len(levels) - 1):
        frame, level = frames[index], levels[index]
        whole = max(1, enclosed(frame, level))
        ends.append(np.array([enclosed(frame, f * level) for f in FACTORS]) / whole)
    own = np.array([max(1, enclosed(frames[index], level)) for index, level in enumerate(levels)])
    share = shares_of(times)
    return own[:, None] * ((1.0 - share)[:, None] * ends[0] + share[:, None] * ends[1])


def shares_of(times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """The share of the way from the first frame to the last that each frame has gone, 0 to 1."""
    span = times[-1] - times[0]
    return np.clip((times - times[0]) / span, 0.0, 1.0) if span else np.zeros_like(times)


def _cubes(window: Window, edge: int) -> tuple[Int[np.ndarray, "3"], Int[np.ndarray, "3"]]:
    """The first voxel and the number, along each axis, of cubes that cover a window and its margin."""
    margin = max(MARGIN, edge)
    start = np.array([part.start - margin for part in window])
    stop = np.array([part.stop + margin for part in window])
    return start, -(-(stop - start) // edge)


def _means(
    frame: Float[np.ndarray, "z y x"], start: Int[np.ndarray, "3"], cubes: Int[np.ndarray, "3"], edge: int
) -> Float[np.ndarray, "cz cy cx"]:
    """Means of the frame over cubes; densities outside the frame are zero."""
    whole = np.zeros(cubes * edge, np.float32)
    shape = np.array(frame.shape)
    low, high = np.maximum(start, 0), np.minimum(start + cubes * edge, shape)
    part = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    whole[part] = frame[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if edge == 1:
        return whole
    z, y, x = cubes
    return whole.reshape(z, edge, y, edge, x, edge).mean(axis=(1, 3, 5), dtype=np.float32)


def _triple(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
