"""Bodies of two maps with a point group: which of them it takes to each other, and the copies that are missing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from morphot_jax.morphing.rigid_bodies import Bodies
from morphot_jax.morphing.rigid_parts import Parts, Shares, shares_at
from morphot_jax.morphing.rigid_space import Groups
from morphot_jax.transport.locally_rigid import Task
from morphot_jax.transport.registration import Motions

SAME = 0.5  # of a body's mass: a copy by symmetry that shares so much of it is the body itself


class _Copy(NamedTuple):
    """A body, or a copy of it. ``origin``: the number of the body. ``shares``: of the mass of both maps."""

    name: str
    origin: int
    motion: Motions
    shares: tuple[Float[Array, " n"], Float[Array, " n"]]


def completed(bodies: Bodies, tasks: tuple[Task, Task], groups: Groups) -> Bodies:
    """The bodies and their copies by the symmetry of both maps, which move as they do.

    Copies of 'arm' are 'arm-2', 'arm-3' and so on. A body that lies where a copy of an earlier one does is that
    copy, and gives it its name. A body that the symmetry takes to itself has no copies.
    """
    found: list[_Copy] = []
    for number, name in enumerate(bodies.names):
        if any(_same(tasks[0], bodies.shares[0][number], copy) for copy in found):
            continue
        made: list[_Copy] = []
        for copy in _copies(bodies, number, tasks, groups):
            if not any(_same(tasks[0], copy.shares[0], other) for other in (*found, *made)):
                made.append(copy._replace(name=_name(bodies, copy, tasks[0]) or f"{name}-{len(made) + 1}"))
        found += [made[0]._replace(name=name), *made[1:]]
    origins = [copy.origin for copy in found]
    first, second = (jnp.stack([copy.shares[k] for copy in found]) for k in range(2))
    return replace(
        bodies,
        names=tuple(copy.name for copy in found),
        motions=Motions.joined(*(copy.motion for copy in found)),
        shares=(_at_most_all(first), _at_most_all(second)),
        misfit=bodies.misfit[origins],
        clear=None if bodies.clear is None else bodies.clear[origins],
    )


def taken_to(parts: Parts, group: Motions) -> Int[np.ndarray, "g k"]:
    """To which part each motion of the group takes each part: to that with which it then shares the most mass.

    What no body holds, the last part, stays itself.
    """
    order, rest = len(group.shift), len(parts.motions) - 1
    if rest == 0:
        return np.zeros((order, 1), int)
    moved = [_shares_after(parts.task, parts.shares, Motions(*g)) for g in zip(*group, strict=True)]
    shared = [np.asarray((parts.shares * parts.task.mass) @ shares.T)[:-1, :-1] for shares in moved]
    return np.stack([np.append(np.argmax(bodies, axis=1), rest) for bodies in shared])


def _copies(bodies: Bodies, number: int, tasks: tuple[Task, Task], groups: Groups) -> Iterator[_Copy]:
    """A body moved by each motion of the group, the identity first: h M g^-1."""
    turn, shift = (np.asarray(part)[number] for part in bodies.motions)
    back = [group.inverse() for group in groups]
    for k in range(len(groups[0].shift)):
        (g, a), (h, b) = ((np.asarray(part)[k] for part in group) for group in groups)
        rotation = h @ turn @ g.T
        motion = Motions(rotation[None], (b + h @ shift - rotation @ a)[None])
        one, other = (
            _shares_after(task, shares[number][None], Motions(way.rotation[k], way.shift[k]))[0]
            for task, shares, way in zip(tasks, bodies.shares, back, strict=True)
        )
        yield _Copy("", number, motion, (one, other))


@jax.jit
def _shares_after(task: Task, shares: Shares, motion: Motions) -> Shares:
    """At each voxel the shares of the place to which a motion takes it."""
    return jnp.where(task.mass > 0, shares_at(task, shares, motion.carried(task.start)), 0.0)


def _same(task: Task, share: Float[Array, " n"], copy: _Copy) -> bool:
    """Whether a body is a copy that was found already."""
    shared = jnp.sum(jnp.minimum(share, copy.shares[0]) * task.mass)
    return bool(shared >= SAME * jnp.sum(share * task.mass))


def _name(bodies: Bodies, copy: _Copy, task: Task) -> str | None:
    """The name of the body that lies where this copy does, if there is one."""
    return next(
        (name for name, share in zip(bodies.names, bodies.shares[0], strict=True) if _same(task, share, copy)),
        None,
    )


def _at_most_all(shares: Shares) -> Shares:
    """Shares that add up to one at most."""
    return shares / jnp.maximum(jnp.sum(shares, axis=0), 1.0)
