"""What a morph will take, told before it is solved: bytes and seconds.

Memory: what is held before, the frames, what compiling leaves behind, and fields over the box that is solved.
Their numbers are peaks of the process, measured at 64^3 to 200^3 on a CPU (``experiments.benches.estimates``).

Seconds: iterations grow with how far the maps spread, in sigma, for every method (over-relaxed as they are); one
is so many convolutions, three products of matrices each, which reach some share of this machine's rate.
"""

import math
import time
from dataclasses import dataclass

import numpy as np

from morphot_jax.morphing.plan import Plan, lane_bytes
from morphot_jax.morphing.settings import SINGLE_PLAN, Settings, keyframes_between, with_method
from morphot_jax.morphing.times import frame_times
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.show.scene import MOST_VOXELS
from morphot_jax.system import memory
from morphot_jax.system.threads import AT_ONCE
from morphot_jax.transport.multilevel import FROM as PYRAMID_FROM

MIB = 2**20
COMPILED = {"linear": 10, "bridge": 150, "displacement": 160, "barycenter": 220, "debiased": 300}  # MiB
SHARED_FIELDS = {"linear": 0, "bridge": 22, "displacement": 50, "barycenter": 10, "debiased": 10}
PER_SPREAD = {"bridge": 6.3, "displacement": 6.3, "barycenter": 5.2, "debiased": 8.0}  # iterations at error 1e-6
CONVOLUTIONS = {"bridge": 2, "displacement": 2, "barycenter": 4, "debiased": 6}  # an iteration
PER_FRAME = {"bridge": 2, "displacement": 6}  # convolutions for a frame of a plan that is solved
COARSE = 0.55  # of the iterations that are left where a solve starts from one on half the grid
SLOWER = {"dense": 1.0, "heat": 1.0, "truncated": 1.3, "fft": 12.0, "log": 20.0}
SHARE = 0.6  # of the rate of a matrix product that convolutions reach
STARTING = 3.0  # seconds to compile, or to read what was compiled
READING = 0.5  # seconds for what nothing is solved for
TABLE_FIELDS = 6  # in double precision, for each frame that is compared with the maps at one time
PER_VOXEL = 35e-9  # seconds to write a voxel of a frame, with its tables
PICTURES = 3.0  # seconds for figures and viewer, whose size is bounded
SCENE_FIELDS = 5  # in single precision, for each voxel that is shown


@dataclass(frozen=True)
class Estimate:
    """``memory``: bytes that the process will hold at most. ``seconds``: None where the device is no CPU."""

    memory: int
    seconds: float | None


def estimate(prepared: Prepared, plan: Plan | None, settings: Settings, *, on_cpu: bool = True) -> Estimate:
    """Of a morph whose maps are in memory already; ``plan``: ``plan_for`` these maps and settings."""
    frames, voxels = len(frame_times(settings)), prepared.volumes[0].data.size
    kind = _kind(settings)
    held = (memory.held() or 0) + 4 * frames * voxels
    # After the solve, whose fields are free by then.
    tables = AT_ONCE * TABLE_FIELDS * 8 * voxels + SCENE_FIELDS * 4 * min(frames * voxels, MOST_VOXELS)
    if plan is None:
        bytes_held = held + max(COMPILED[kind] * MIB, tables)
        return Estimate(bytes_held, READING + PICTURES + PER_VOXEL * frames * voxels if on_cpu else None)
    field = math.prod(plan.extent) * plan.dtype.itemsize
    lanes = (
        0 if kind in SINGLE_PLAN else plan.batch * lane_bytes(plan.extent, 2, plan.dtype, debias=settings.debias)
    )
    bytes_held = held + max(COMPILED[kind] * MIB + SHARED_FIELDS[kind] * field + lanes, tables)
    if not on_cpu:
        return Estimate(bytes_held, None)
    solving = _convolutions(kind, plan, settings, frames, len(prepared.volumes)) * _convolution(plan)
    return Estimate(bytes_held, STARTING + PICTURES + PER_VOXEL * frames * voxels + solving)


def _kind(settings: Settings) -> str:
    method = with_method(settings)[0].method
    if settings.debias:
        return "debiased"
    return "barycenter" if method == "mixed" else method


def _convolutions(kind: str, plan: Plan, settings: Settings, frames: int, maps: int) -> float:
    """How many convolutions the solve will make."""
    decades = -math.log10(min(settings.tolerance, 0.1)) / 6.0
    iterations = min(float(plan.iterations), max(10.0, decades * PER_SPREAD[kind] * plan.spread))
    if settings.iterations is not None:
        iterations = float(settings.iterations)
    if kind in SINGLE_PLAN:
        coarse = COARSE if math.prod(plan.extent) >= PYRAMID_FROM else 1.0
        return (maps - 1) * iterations * coarse * CONVOLUTIONS[kind] + frames * PER_FRAME[kind]
    solves = keyframes_between(maps, settings) if settings.method == "mixed" else frames
    return solves * iterations * CONVOLUTIONS[kind]


def _convolution(plan: Plan) -> float:
    """Seconds for one, on this machine."""
    operations = 2.0 * math.prod(plan.extent) * sum(plan.extent)
    return operations * SLOWER[plan.kernel] / (SHARE * _rate())


def _rate(side: int = 512) -> float:
    """Operations a second of a product of matrices in double precision."""
    matrix = np.ones((side, side))
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        np.dot(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best
