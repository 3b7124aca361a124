"""morphot_jax: morph cryo-EM density maps into one another by entropic optimal transport, compiled with JAX.

Names are imported when they are first used, so that ``import morphot_jax`` alone does not load JAX.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from morphot_jax import kernels, metrics
    from morphot_jax.barycenter import solve_barycenter
    from morphot_jax.errors import InputError
    from morphot_jax.field import displacement_field
    from morphot_jax.mrc import read_volume, write_volume
    from morphot_jax.order import order_maps
    from morphot_jax.prepare import prepare_maps
    from morphot_jax.settings import Settings
    from morphot_jax.sinkhorn import sinkhorn_divergence, solve_sinkhorn
    from morphot_jax.trajectory import morph
    from morphot_jax.volume import Volume

__version__ = version("morphot_jax")

_HOMES = {
    "InputError": "errors",
    "displacement_field": "field",
    "Settings": "settings",
    "Volume": "volume",
    "morph": "trajectory",
    "order_maps": "order",
    "prepare_maps": "prepare",
    "read_volume": "mrc",
    "solve_barycenter": "barycenter",
    "sinkhorn_divergence": "sinkhorn",
    "solve_sinkhorn": "sinkhorn",
    "write_volume": "mrc",
}
_MODULES = ("kernels", "metrics")

__all__ = [
    "InputError",
    "Settings",
    "Volume",
    "__version__",
    "displacement_field",
    "kernels",
    "metrics",
    "morph",
    "order_maps",
    "prepare_maps",
    "read_volume",
    "sinkhorn_divergence",
    "solve_barycenter",
    "solve_sinkhorn",
    "write_volume",
]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
