"""How the house is built: which room may import which."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import morphot_jax

PACKAGE = Path(morphot_jax.__file__).parent
BELOW = {  # what each room may import, from the ground up
    "system": set(),
    "maps": {"system"},
    "transport": {"system"},
    "prepare": {"maps", "system"},
    "morphing": {"prepare", "maps", "transport", "system"},
    "show": {"morphing", "prepare", "maps", "system"},
    "runs": {"show", "morphing", "prepare", "maps", "transport", "system"},
    "cli": {"runs", "show", "morphing", "prepare", "maps", "transport", "system"},
}
HEAVY = "jax", "matplotlib", "scipy", "numpy", "mrcfile", "gemmi", "rich"


def imported() -> dict[str, list[tuple[str, str]]]:
    """For each module, as ``room.name``: the modules of the package that it imports, and the names it takes."""
    found = {}
    for path in PACKAGE.glob("*/**/*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[module] = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("morphot_jax."):
                place = node.module.removeprefix("morphot_jax.")
                for name in (alias.name for alias in node.names):
                    whole = (PACKAGE / place.replace(".", "/") / name).with_suffix(".py").exists()
                    found[module].append((f"{place}.{name}" if whole else place, name))
    return found


def test_imports_between_rooms_point_down():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(BELOW)
    upward = [
        f"{module} -> {other}"
        for module, others in imported().items()
        for other, _ in others
        if (here := module.split(".")[0]) != (there := other.split(".")[0]) and there not in BELOW[here]
    ]
    assert upward == []


def test_no_module_imports_in_a_circle_or_takes_private_names():
    found = imported()
    TopologicalSorter({module: {other for other, _ in others} for module, others in found.items()}).prepare()
    private = {f"{module}: {name}" for module, others in found.items() for _, name in others if name[0] == "_"}
    assert private == set()


@pytest.mark.parametrize("module", ["morphot_jax", "morphot_jax.cli.main"])
def test_importing_the_package_and_its_command_line_loads_nothing_heavy(module):
    script = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
