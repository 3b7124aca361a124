"""Derivatives through a loop: forward mode works, reverse mode is refused with one sentence.

JAX cannot run a ``while_loop`` backwards, and its own error names the loop, not the remedy. Solves with implicit
derivatives (``gradients``) need no way through their loop.
"""

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from morphot_jax.system.errors import InputError

REFUSAL = (
    "reverse-mode gradients (jax.grad, jax.vjp, jax.jacrev) do not go through a debiased solve or one with a "
    "guard: use forward mode (jax.jvp, jax.jacfwd), or hold the solution fixed (jax.lax.stop_gradient) and "
    "differentiate what you compute from it"
)


def forward_only(value: Array) -> Array:
    """The value unchanged: forward-mode derivatives pass through it, reverse mode raises InputError.

    Integers and booleans, which have no derivatives, pass as they are.
    """
    return _identity.bind(value) if jnp.issubdtype(value.dtype, jnp.inexact) else value


def _refuse(cotangent, value):
    raise InputError(REFUSAL)


_identity = Primitive("forward_only")
_identity.def_impl(lambda value: value)
_identity.def_abstract_eval(lambda value: value)
mlir.register_lowering(_identity, lambda context, value: [value])
ad.deflinear2(_identity, _refuse)
batching.defvectorized(_identity)
