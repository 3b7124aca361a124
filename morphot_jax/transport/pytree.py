"""Dataclasses that JAX takes as pytrees."""

from dataclasses import fields
from typing import Any, TypeVar

from jax.tree_util import GetAttrKey, register_pytree_with_keys

Class = TypeVar("Class", bound=type)


def pytree(cls: Class) -> Class:
    """Register a dataclass as a pytree. Fields with ``metadata={"static": True}`` belong to its structure.

    It does what ``jax.tree_util.register_dataclass`` does, and keeps classes apart: in jax 0.10.2 two dataclasses
    with equally many fields have equal structures, so a function compiled for one kind of kernel was now and then
    run with another kind.
    """
    static = [field.name for field in fields(cls) if field.metadata.get("static")]
    leaves = [field.name for field in fields(cls) if field.name not in static]
    keys = [GetAttrKey(name) for name in leaves]

    def flatten(value: Any) -> tuple[list, tuple]:
        return [getattr(value, name) for name in leaves], tuple(getattr(value, name) for name in static)

    def flatten_with_keys(value: Any) -> tuple[list, tuple]:
        values, structure = flatten(value)
        return list(zip(keys, values, strict=True)), structure

    def unflatten(structure: tuple, values: Any) -> Any:
        return cls(**dict(zip(leaves, values, strict=True)), **dict(zip(static, structure, strict=True)))

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
