"""What mkdocs does beside its plugins: a quiet kernel for the notebooks, and the table of options."""

from typing import Any, Literal

from jupyter_client.manager import KernelManager

from morphot_jax.cli.table import options_table

MARKER = "<!-- options -->"  # where a page has the table of options


def on_startup(*, command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Before anything else: over TCP a kernel warns that it is not encrypted, and needs a network port."""
    KernelManager.transport.default_value = "ipc"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of options where a page asks for it."""
    return markdown.replace(MARKER, options_table()) if MARKER in markdown else markdown
