"""Draw the house: the rooms of ``morphot_jax`` from the ground up, and the imports between them.

``python docs/house.py`` reads the imports of the package and writes ``docs/images/house.svg``. A room stands above
all rooms that it imports. Each lane leads down to one room, and a number on it counts the imports that the room at
the left takes from there: pairs of a file and a file that it imports.
"""

import ast
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "morphot_jax"
PICTURE = Path(__file__).resolve().parent / "images" / "house.svg"

BOX, ROW, GAP = 112, 50, 10  # pixels: width of a room, its height, and the space between two
LEFT, TOP, LANE, RADIUS = 10, 56, 36, 14
OUT, IN = 18, 38  # how far below the top of a room its own imports leave, and those of others arrive
STYLE = """
    text { font-family: system-ui, sans-serif; fill: #12263a; }
    .paper { fill: #ffffff; }
    .room { fill: #dbe7f3; stroke: #1d3b57; stroke-width: 1.5; }
    .roof { fill: #d55e00; }
    .ground, .lane, .row { fill: none; stroke: #5f7a94; stroke-width: 1.5; }
    .ground { stroke-width: 3; }
    .row { stroke-dasharray: 2 3; }
    .head { fill: #5f7a94; }
    .count { fill: #ffffff; stroke: #5f7a94; stroke-width: 1.5; }
    .name { font-size: 16px; font-weight: 600; }
    .files, .number { font-size: 13px; }
    .number { text-anchor: middle; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e3ebf3; }
      .paper { fill: #1e2430; }
      .room { fill: #2b4159; stroke: #8fb0d0; }
      .count { fill: #1e2430; }
      .ground, .lane, .row, .count { stroke: #8aa3bb; }
      .head { fill: #8aa3bb; }
    }"""


def drawing() -> str:
    """The picture of the package as it is now, as SVG."""
    files = {
        room.parent.name: sum(path.name != "__init__.py" for path in room.parent.rglob("*.py"))
        for room in PACKAGE.glob("*/__init__.py")
    }
    counts = imports_between(set(files))
    below = {room: {low for high, low in counts if high == room} for room in files}
    rooms = _from_the_top(below)
    tops = {room: TOP + row * (ROW + GAP) for row, room in enumerate(rooms)}
    lanes = {room: LEFT + BOX + lane * LANE + 24 for lane, room in enumerate(rooms[1:])}
    width = LEFT + BOX + len(lanes) * LANE + 24
    height = TOP + len(rooms) * (ROW + GAP) + 4
    drawn = [_frame(width, height)]
    drawn += [_lane(lanes[low], min(tops[high] for high, to in counts if to == low), tops[low]) for low in lanes]
    drawn += [_row(tops[high], max(lanes[low] for low in below[high])) for high in rooms if below[high]]
    drawn += [_count(lanes[low], tops[high], number) for (high, low), number in sorted(counts.items())]
    drawn += [_room(room, tops[room], files[room]) for room in rooms]
    title = "The rooms of morphot_jax, from the ground up, and the imports between them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"  <title>{title}</title>\n  <style>{STYLE}\n  </style>\n  " + "\n  ".join(drawn) + "\n</svg>\n"
    )


def imports_between(rooms: set[str]) -> Counter[tuple[str, str]]:
    """How many files of the second room are imported by files of the first, summed over the files of the first."""
    pairs = {
        (path, module)
        for path in PACKAGE.glob("*/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in _modules(node)
    }
    between = ((path.relative_to(PACKAGE).parts[0], module.split(".")[0]) for path, module in pairs)
    return Counter((high, low) for high, low in between if high != low and low in rooms)


def _modules(node: ast.AST) -> list[str]:
    """What a statement imports of the package, each as ``room.file``."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [name if _is_module(name) else node.module for name in whole]
    else:
        names = []
    return [name.removeprefix("morphot_jax.") for name in names if name.startswith("morphot_jax.")]


def _is_module(name: str) -> bool:
    place = PACKAGE.parent / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


def _from_the_top(below: dict[str, set[str]]) -> list[str]:
    """Rooms by their floors, the highest first; a circle of imports is an error (``graphlib.CycleError``)."""
    floors: dict[str, int] = {}
    for room in TopologicalSorter(below).static_order():
        floors[room] = 1 + max((floors[low] for low in below[room]), default=-1)
    return sorted(below, key=lambda room: (-floors[room], room))


def _frame(width: int, height: int) -> str:
    middle, eaves = LEFT + BOX // 2, TOP - 6
    return (
        f'<rect class="paper" width="{width}" height="{height}"/>\n'
        f'  <path class="roof" d="M{LEFT - 6} {eaves} L{middle} 12 L{LEFT + BOX + 6} {eaves} Z"/>\n'
        f'  <path class="ground" d="M4 {height - 8} H{width - 4}"/>'
    )


def _room(name: str, top: int, files: int) -> str:
    return (
        f'<rect class="room" x="{LEFT}" y="{top}" width="{BOX}" height="{ROW}" rx="4"/>\n'
        f'  <text class="name" x="{LEFT + 10}" y="{top + 22}">{name}</text>\n'
        f'  <text class="files" x="{LEFT + 10}" y="{top + 40}">{files} files</text>'
    )


def _lane(x: int, start: int, top: int) -> str:
    """From the highest room that imports this one, down to it."""
    end, y = LEFT + BOX, top + IN
    return (
        f'<path class="lane" d="M{x} {start + OUT} V{y} H{end + 8}"/>\n'
        f'  <path class="head" d="M{end + 1} {y} l9 -5 v10 Z"/>'
    )


def _row(top: int, last: int) -> str:
    return f'<path class="row" d="M{LEFT + BOX} {top + OUT} H{last}"/>'


def _count(x: int, top: int, number: int) -> str:
    y = top + OUT
    return (
        f'<circle class="count" cx="{x}" cy="{y}" r="{RADIUS}"/>\n'
        f'  <text class="number" x="{x}" y="{y + 4.5}">{number}</text>'
    )


if __name__ == "__main__":
    PICTURE.write_text(drawing(), encoding="utf-8")
    print(PICTURE)
