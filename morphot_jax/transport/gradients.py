"""What derivatives a solve has: forward mode goes through its loop, reverse mode does not yet."""

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from morphot_jax.system.errors import InputError

REFUSAL = (
    "reverse-mode gradients (jax.grad, jax.vjp, jax.jacrev) do not go through a solve: "
    "use forward mode (jax.jvp, jax.jacfwd), or differentiate what you compute from a solution that is held fixed "
    "(jax.lax.stop_gradient)"
)


def forward_only(value: Array) -> Array:
    """The value itself, with forward-mode derivatives; InputError where reverse mode is asked for.

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
