"""What mkdocs does beside its plugins: the notebook's kernel, on this machine alone, needs no network port."""

from typing import Literal

from jupyter_client.manager import KernelManager


def on_startup(*, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Before anything else: over TCP a kernel warns that it is not encrypted."""
    KernelManager.transport.default_value = "ipc"
