"""How the house is built: which module may import which, and how long a module may be."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import morphot_jax

PACKAGE = Path(morphot_jax.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
NUMERICAL = {
    "align",
    "barycenter",
    "batches",
    "bodies",
    "choices",
    "clean",
    "errors",
    "field",
    "grids",
    "iterate",
    "colouring",
    "kernels",
    "levels",
    "metrics",
    "order",
    "placing",
    "plan",
    "pose",
    "prepare",
    "render",
    "scene",
    "settings",
    "spectrum",
    "trajectory",
    "volume",
}
OUTSIDE_WORLD = {
    "mrc",
    "files",
    "fetch",
    "devices",
    "report",
    "figures",
    "terminal",
    "run",
    "cli",
    "options",
    "commands",
    "tools",
    "look",
    "viewer",
    "film",
    "showing",
    "completion",
    "examples",
    "journal",
    "chimerax",
    "atoms",
    "samples",
}
OUTSIDE_WORLD |= {"typer", "rich", "mrcfile", "matplotlib", "gemmi"}
LONGEST = 400  # lines


def imports(module, *, top_level_only=False):
    """Modules of this package, by their short names, and other packages that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    found = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module == "morphot_jax":
                found |= {f"morphot_jax.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    parts = (name.split(".") for name in found)
    return {part[1] if part[0] == "morphot_jax" and len(part) > 1 else part[0] for part in parts}


def reachable(module):
    """Everything that a module imports, directly or through others of the package."""
    found, waiting = set(), [module]
    while waiting:
        for name in imports(waiting.pop()) - found:
            found.add(name)
            if name in MODULES:
                waiting.append(name)
    return found


def test_the_walk_sees_what_is_there():
    assert set(MODULES) >= NUMERICAL
    assert {"mrcfile", "files", "errors", "volume"} <= imports("mrc")
    assert "gemmi" in imports("atoms")  # inside a function
    assert "gemmi" not in imports("atoms", top_level_only=True)
    assert "kernels" in imports("plan")  # as ``from morphot_jax import kernels``


@pytest.mark.parametrize("module", sorted(NUMERICAL))
def test_numerical_modules_know_nothing_of_files_devices_and_terminals(module):
    assert reachable(module) & OUTSIDE_WORLD == set()


@pytest.mark.parametrize("module", ["kernels", "volume"])
def test_kernels_and_volume_stand_on_their_own(module):
    assert imports(module) & set(MODULES) <= {"errors", "choices"}


@pytest.mark.parametrize(
    ("package", "users"),
    [
        ("mrcfile", ["mrc"]),
        ("gemmi", ["atoms"]),
        ("matplotlib", ["figures"]),
        ("typer", ["cli", "commands", "look", "options", "tools"]),
        ("rich", ["terminal"]),
        ("pooch", ["fetch"]),
        ("optax", ["align"]),
        ("k3d", ["viewer"]),
        ("imageio_ffmpeg", ["film"]),
        ("PIL", ["film"]),
    ],
)
def test_a_package_of_the_outside_is_used_in_one_place(package, users):
    assert [module for module in MODULES if package in imports(module)] == users


def test_there_are_no_cycles():
    graph = {module: imports(module) & set(MODULES) for module in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)
    assert all(module not in imports(module) for module in MODULES)


def test_the_command_line_imports_nothing_heavy_before_a_command_runs():
    light = set(sys.stdlib_module_names) | {
        "typer",
        "pydantic",
        "choices",
        "errors",
        "options",
        "commands",
        "look",
        "tools",
        "completion",
        "examples",
    }
    light_modules = ("cli", "commands", "look", "tools", "options", "completion", "examples", "choices", "errors")
    for module in light_modules:
        assert imports(module, top_level_only=True) <= light


@pytest.mark.parametrize("module", ["morphot_jax", "morphot_jax.cli"])
def test_importing_the_package_and_its_command_line_loads_nothing_heavy(module):
    heavy = "jax", "matplotlib", "scipy", "numpy", "mrcfile", "gemmi"
    script = f"import sys, {module}; print(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ["__init__", *MODULES])
def test_modules_stay_short(module):
    assert len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()) <= LONGEST
