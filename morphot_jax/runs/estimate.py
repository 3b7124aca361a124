"""Estimates, before the solve, of the memory and the time that a morph needs.

Memory: what the process holds already, the frames, what compiling leaves behind, and fields over the solved box.
The constants are peaks of the process, measured at 64^3 to 200^3 on a CPU (``experiments.benches.estimates``).

Time: for every method the number of iterations grows with the spread of the maps in sigma. An
iteration takes a fixed number of convolutions, each three matrix products, at a share of this machine's rate.
"""

import math
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from morphot_jax.morphing.plan import Plan, anchor_bytes, anchor_count, lane_bytes
from morphot_jax.morphing.rigid_space import BLOCK
from morphot_jax.morphing.settings import (
    SINGLE_PLAN,
    Settings,
    keyframes_between,
    solved_together,
    with_method,
)
from morphot_jax.morphing.times import frame_times
from morphot_jax.prepare.prepared import Prepared
from morphot_jax.show.scene import MOST_VOXELS
from morphot_jax.system import memory
from morphot_jax.system.threads import AT_ONCE
from morphot_jax.transport.coarse_start import FROM as PYRAMID_FROM

MIB = 2**20
COMPILED = {
    "linear": 10,
    "bridge": 150,
    "displacement": 160,
    "rigid": 400,
    "barycenter": 220,
    "debiased": 300,
}  # MiB
SHARED_FIELDS = {"linear": 0, "bridge": 22, "displacement": 50, "rigid": 60, "barycenter": 10, "debiased": 10}
# Iterations to a marginal error of 1e-6, for each sigma of spread.
PER_SPREAD = {"bridge": 1.8, "displacement": 1.8, "barycenter": 1.15, "debiased": 8.0}
RELAXED = 4.0  # times as many where they are over-relaxed
CONVOLUTIONS = {"bridge": 2, "displacement": 2, "barycenter": 4, "debiased": 6}  # in an iteration
PER_FRAME = {"bridge": 2, "displacement": 6}  # convolutions to make a frame from a solved plan
LEAST_SHARE = 0.16  # of the time of an iteration, however few its nodes: the maps keep all of their voxels
ROUNDS = 1300  # convolutions of the rounds of the method rigid, on blocks of about one sigma
RIGID_FRAME = 15  # convolutions that a frame of that method takes as long as
AMONG = 0.3  # share of the iterations of barycenters that start from others
COARSE = 0.55  # share of the iterations that remain after a solve on half the grid
SLOWER = {"dense": 1.0, "heat": 1.0, "truncated": 1.3, "fft": 12.0, "log": 20.0}  # than the dense kernel
PER_STEP = 1e-9  # seconds for a voxel in a step of a walk
SHARE = 0.6  # of the rate of matrix products: what convolutions reach
STARTING = 3.0  # seconds to compile, or to load compiled code
READING = 0.5  # seconds of a morph without a solve, beside frames and pictures
TABLE_FIELDS = 6  # in double precision, for each frame that is being compared with the maps
PER_VOXEL = 35e-9  # seconds to write and measure a voxel of a frame
PICTURES = 3.0  # seconds for figures and viewer, whatever the size of the maps
SCENE_FIELDS = 5  # in single precision, for each voxel shown


@dataclass(frozen=True)
class Estimate:
    """``memory``: the peak of the process in bytes. ``seconds``: None where the device is not a CPU."""

    memory: int
    seconds: float | None


def estimate(prepared: Prepared, plan: Plan | None, settings: Settings, *, on_cpu: bool = True) -> Estimate:
    """Estimate a morph of maps in memory; ``plan``: ``plan_for`` these maps and settings."""
    frames, voxels = len(frame_times(settings)), prepared.volumes[0].data.size
    kind = _kind(settings)
    held = (memory.held() or 0) + 4 * frames * voxels
    # Tables and the scene are made after the solve has freed its fields.
    tables = AT_ONCE * TABLE_FIELDS * 8 * voxels + SCENE_FIELDS * 4 * min(frames * voxels, MOST_VOXELS)
    if plan is None:
        bytes_held = held + max(COMPILED[kind] * MIB, tables)
        return Estimate(bytes_held, READING + PICTURES + PER_VOXEL * frames * voxels if on_cpu else None)
    field = math.prod(plan.extent) * plan.dtype.itemsize
    lanes = 0 if kind in SINGLE_PLAN else _lanes_bytes(plan, settings, frames)
    bytes_held = held + max(COMPILED[kind] * MIB + SHARED_FIELDS[kind] * field + lanes, tables)
    if not on_cpu:
        return Estimate(bytes_held, None)
    solving = _convolutions(kind, plan, settings, frames, len(prepared.volumes)) * _convolution(plan)
    return Estimate(bytes_held, STARTING + PICTURES + PER_VOXEL * frames * voxels + solving)


def _lanes_bytes(plan: Plan, settings: Settings, frames: int) -> int:
    maps, debias = solved_together(settings), settings.debias
    lane = lane_bytes(plan.extent, maps, plan.dtype, plan.relaxation, debias=debias)
    return plan.batch * lane + anchor_bytes(plan.extent, frames, plan.relaxation, debias=debias, maps=maps)


def _kind(settings: Settings) -> str:
    method = with_method(settings)[0].method
    if settings.debias or (settings.unbalanced is not None and method == "barycenter"):
        return "debiased"
    return "barycenter" if method == "mixed" else method


def _convolutions(kind: str, plan: Plan, settings: Settings, frames: int, maps: int) -> float:
    """The number of convolutions of the solve."""
    if kind == "rigid":
        block = max(1.0, min(plan.sigma) / BLOCK)
        return (maps - 1) * ROUNDS / block**4 + frames * RIGID_FRAME
    decades = -math.log10(min(settings.tolerance, 0.1)) / 6.0
    iterations = min(float(plan.iterations), max(10.0, decades * PER_SPREAD[kind] * plan.spread))
    if plan.relaxation is not None:
        iterations = min(float(plan.iterations), RELAXED * iterations)
    if settings.iterations is not None:
        iterations = float(settings.iterations)
    if kind in SINGLE_PLAN:
        coarse = COARSE if math.prod(plan.extent) >= PYRAMID_FROM else 1.0
        return (maps - 1) * iterations * coarse * CONVOLUTIONS[kind] + frames * PER_FRAME[kind]
    solves = keyframes_between(maps, settings) if settings.method == "mixed" else frames
    h = plan.stride  # products along x, y and z go between all voxels and the nodes
    share = max(LEAST_SHARE, (1 / h + 1 / h**2 + 1 / h**3) / 3)
    brought = solves if h > 1 else 0  # to all voxels, at the cost of an iteration
    together = solved_together(settings)
    if anchors := anchor_count(solves, plan.relaxation, debias=settings.debias, maps=together):
        solves = anchors + AMONG * (solves - anchors)
    return (solves * iterations * share + brought) * CONVOLUTIONS[kind] * together / 2


def _convolution(plan: Plan) -> float:
    """Seconds for one convolution on this machine."""
    if plan.steps is not None:
        return PER_STEP * plan.steps * math.prod(plan.extent)
    operations = 2.0 * math.prod(plan.extent) * sum(plan.extent)
    return operations * SLOWER.get(plan.kernel, 1.0) / (SHARE * _rate())


@cache
def _rate(side: int = 512) -> float:
    """Operations per second of a matrix product in double precision, measured once in a process.

    So two estimates of one process differ by what is asked of them, not by the noise of a measurement.
    """
    matrix = np.ones((side, side))
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        np.dot(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best
