"""morphot_jax: morph cryo-EM density maps into one another by entropic optimal transport, compiled with JAX.

Each name is imported when it is first used, so ``import morphot_jax`` does not load JAX.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from morphot_jax.maps import metrics
    from morphot_jax.maps.mrc import read_volume, write_volume
    from morphot_jax.maps.volume import Volume
    from morphot_jax.morphing.coordinates import place_maps
    from morphot_jax.morphing.field import displacement_field
    from morphot_jax.morphing.fit_part import fit_part
    from morphot_jax.morphing.landscape import landscape
    from morphot_jax.morphing.order import order_maps
    from morphot_jax.morphing.rigid import find_bodies
    from morphot_jax.morphing.settings import Settings
    from morphot_jax.morphing.trajectory import Trajectory, morph
    from morphot_jax.prepare.align import align_maps
    from morphot_jax.prepare.preparation import Preparation
    from morphot_jax.prepare.prepared import prepare_maps
    from morphot_jax.system.errors import InputError
    from morphot_jax.transport import costs, kernels, walks
    from morphot_jax.transport.barycenter import solve_barycenter
    from morphot_jax.transport.certificate import Certificate, certify
    from morphot_jax.transport.divergence import sinkhorn_divergence
    from morphot_jax.transport.sinkhorn import solve_sinkhorn
    from morphot_jax.transport.status import Status
    from morphot_jax.transport.unbalanced import carried_part, solve_unbalanced
    from morphot_jax.transport.unbalanced_barycenter import solve_unbalanced_barycenter

__version__ = version("morphot_jax")

_HOMES = {
    "Certificate": "transport.certificate",
    "InputError": "system.errors",
    "align_maps": "prepare.align",
    "carried_part": "transport.unbalanced",
    "certify": "transport.certificate",
    "displacement_field": "morphing.field",
    "find_bodies": "morphing.rigid",
    "fit_part": "morphing.fit_part",
    "Preparation": "prepare.preparation",
    "Settings": "morphing.settings",
    "Volume": "maps.volume",
    "landscape": "morphing.landscape",
    "morph": "morphing.trajectory",
    "order_maps": "morphing.order",
    "place_maps": "morphing.coordinates",
    "prepare_maps": "prepare.prepared",
    "read_volume": "maps.mrc",
    "solve_barycenter": "transport.barycenter",
    "sinkhorn_divergence": "transport.divergence",
    "Status": "transport.status",
    "Trajectory": "morphing.trajectory",
    "solve_sinkhorn": "transport.sinkhorn",
    "solve_unbalanced": "transport.unbalanced",
    "solve_unbalanced_barycenter": "transport.unbalanced_barycenter",
    "write_volume": "maps.mrc",
}
_MODULES = {
    "costs": "transport.costs",
    "kernels": "transport.kernels",
    "metrics": "maps.metrics",
    "walks": "transport.walks",
}

__all__ = [
    "Certificate",
    "InputError",
    "Preparation",
    "Settings",
    "Status",
    "Trajectory",
    "Volume",
    "__version__",
    "align_maps",
    "carried_part",
    "certify",
    "costs",
    "displacement_field",
    "find_bodies",
    "fit_part",
    "kernels",
    "landscape",
    "metrics",
    "morph",
    "order_maps",
    "place_maps",
    "prepare_maps",
    "read_volume",
    "sinkhorn_divergence",
    "solve_barycenter",
    "solve_sinkhorn",
    "solve_unbalanced",
    "solve_unbalanced_barycenter",
    "walks",
    "write_volume",
]


def __getattr__(name: str):
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
