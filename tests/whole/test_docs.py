"""What the README and the pages say: every command and block of Python is run, every option and name is there.

Commands run on stand-ins for the maps that they name, each page's in one folder, one after the other, as a reader
would. Those that something else runs are listed (``ELSEWHERE``, ``EXPERIMENTS``) with what does. Notebooks run
where the pages are built.
"""

import gzip
import http.server
import json
import re
import shlex
import shutil
import textwrap
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import typer
import yaml

import morphot_jax
from helpers import QUICK, ROOT, morphot
from morphot_jax import Preparation, prepare_maps, write_volume
from morphot_jax.cli import main
from morphot_jax.maps.samples import sample_volume
from morphot_jax.runs import report

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

GRID = 32  # voxels along an axis of the stand-ins
STAND_INS = {"open.mrc": "mmcpn-open", "closed.mrc": "mmcpn-closed"}  # files that pages name, and samples
ENTRIES = {"5140": "mmcpn-open", "5138": "mmcpn-closed"}  # of the EMDB, as a server on this machine has them
SHORTER = {  # what takes long in a command, and what is run instead
    "--grid 64": "--grid 24",  # entries are larger than their stand-ins, and both are made smaller
    "morphot movie ": "morphot movie --size 120 ",
}
PLACEHOLDERS = {  # words in commands within sentences, and what is put there
    "-o OUT": "-o new",
    "OUT": "run",
    "MAPS...": "open.mrc closed.mrc",
    "MAP...": "open.mrc closed.mrc",
    "MAP": "open.mrc",
    "ONTO": "closed.mrc",
    "TO": "closed.mrc",
    "A B": "open.mrc closed.mrc",
    "MASK": "mask.mrc",
    "FOLDER": "run",
    "--among A --among B": "--among open.mrc --among closed.mrc",
}
SCRIPT, PYTHON = ("", "sh"), "python"  # languages of fences: commands, and Python
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHER_OPTIONS = {"--help", "--strict"}  # of every command, of other programs


class Elsewhere(NamedTuple):
    """A command that something else runs: the file that does, and what stands there."""

    place: str
    says: str


ELSEWHERE = {
    ".ci/run": Elsewhere(".ci/run", "step "),
    'pip install -e ".[dev]"': Elsewhere(".ci/run", 'pip install -e ".[dev,docs]"'),
    'pip install -e ".[docs]"': Elsewhere(".ci/run", 'pip install -e ".[dev,docs]"'),
    "pre-commit install": Elsewhere(".ci/run", "pre-commit install"),
    "ruff check .": Elsewhere(".ci/run", 'ruff" check .'),
    "ruff format --check .": Elsewhere(".ci/run", 'ruff" format --check .'),
    "pyright": Elsewhere(".ci/run", "&& pyright)"),
    'python -m pytest -m "not study"': Elsewhere("pyproject.toml", "-m 'not study'"),
    "python -m pytest -m study": Elsewhere(".ci/run", "python -m pytest -m study"),
    "mkdocs build --strict --site-dir site": Elsewhere(".ci/run", "mkdocs build --strict --site-dir"),
}
EXPERIMENTS = dict.fromkeys(QUICK, "tests/helpers.py") | {
    "benches.solver": "tests/experiments/test_benches.py",
    "studies.reproduction": "tests/experiments/test_studies.py",
}

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)``` *$", re.M | re.DOTALL)


def fences(page: Path) -> list[tuple[str, str]]:
    """Language and text of each."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(match["language"], textwrap.dedent(match["text"])) for match in found]


def commands(page: Path) -> list[str]:
    """Those in fences, in order."""
    text = "".join(text for language, text in fences(page) if language in SCRIPT)
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def spans(page: Path) -> list[str]:
    """Code within sentences and tables, on one line."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def spoken(page: Path) -> list[str]:
    """Commands within sentences that say more than their name."""
    words = [span.split() for span in spans(page) if span.startswith("morphot ")]
    return [" ".join(word) for word in words if len(word) > 2]


def installing() -> list[str]:
    """The README's two commands that install, which .ci/run takes from there and runs."""
    return commands(README)[:2]


def who_runs(command: str) -> Elsewhere | None:
    """What else runs a command; None where this file has to."""
    if command in installing():
        return Elsewhere(".ci/run", f"readme_command {1 + installing().index(command)}")
    return ELSEWHERE.get(command)


def run(command: str) -> None:
    """A command of this package, in the folder of now."""
    for long, short in SHORTER.items():
        command = command.replace(long, short)
    done = morphot(*shlex.split(command)[1:])
    assert done.code == 0, f"{command}\n{done.err}"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with every file that pages name, and the folder of a run."""
    folder = tmp_path_factory.mktemp("stand-ins")
    noise = np.random.default_rng(0).normal(0.0, 1e-2, size=(GRID,) * 3)
    for name, sample in STAND_INS.items():
        volume = prepare_maps([sample_volume(sample)], Preparation(grid=GRID)).volumes[0]
        write_volume(volume, folder / name)
        for end, sign in (("half1", 1), ("half2", -1)):
            half = (volume.data + sign * noise * volume.data.max()).astype(np.float32)
            write_volume(volume.with_data(half), folder / f"{name.removesuffix('.mrc')}_{end}.mrc")
    first = prepare_maps([sample_volume(STAND_INS["open.mrc"])], Preparation(grid=GRID)).volumes[0]
    upper = np.zeros_like(first.data)
    upper[GRID // 2 :] = 1.0
    write_volume(first.with_data(upper), folder / "mask.mrc")
    atom = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 10.00           C\n"
    (folder / "model.pdb").write_text("".join(atom.format(i, i, 3.8 * i, 0.0, 0.0) for i in range(1, 9)) + "END\n")
    ends = folder / "open.mrc", folder / "closed.mrc"
    for run, options in (("run", ()), ("bridge", ("--method", "bridge"))):
        done = morphot("morph", *ends, "-o", folder / run, "--frames", 3, *options)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(stand_ins, tmp_path, monkeypatch):
    """A fresh copy of the stand-ins, to work in."""
    folder = tmp_path / "here"
    shutil.copytree(stand_ins, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def data_bank(stand_ins, tmp_path, monkeypatch):
    """A server on loopback that has the entries."""
    names = {sample: name for name, sample in STAND_INS.items()}
    bodies = {
        f"/{entry}.map.gz": gzip.compress((stand_ins / names[sample]).read_bytes(), mtime=0)
        for entry, sample in ENTRIES.items()
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("MORPHOT_EMDB", f"http://127.0.0.1:{server.server_port}/{{id}}.map.gz")
    monkeypatch.setenv("MORPHOT_CACHE", str(tmp_path / "cache"))
    yield
    server.shutdown()
    server.server_close()
    thread.join()


# Commands and Python.


@pytest.mark.parametrize("name", NAMES)
def test_every_fence_is_a_script_or_python(name):
    assert {language for language, _ in fences(ROOT / name)} <= {*SCRIPT, PYTHON}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_that_is_run(name):
    """By this file, or by what the lists above say, which has to say so too."""
    for command in commands(ROOT / name):
        other = who_runs(command)
        if other is None:
            assert command.startswith("morphot "), f"{name}: nothing runs '{command}'"
        else:
            assert other.says in (ROOT / other.place).read_text(encoding="utf-8"), command


@pytest.mark.study  # some minutes in all
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that pooch leaves
@pytest.mark.parametrize("name", [name for name in NAMES if set(map(who_runs, commands(ROOT / name))) >= {None}])
def test_commands_of_a_page_run_one_after_the_other(name, here, data_bank):
    for command in commands(ROOT / name):
        if who_runs(command) is None:
            run(command)


@pytest.mark.study
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("command", sorted({c for name in NAMES for c in spoken(ROOT / name)}))
def test_commands_within_sentences_run(command, here, data_bank):
    for word, meant in PLACEHOLDERS.items():
        command = re.sub(rf"(?<!\S){re.escape(word)}(?!\S)", meant, command)
    run(command)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in NAMES if any(language == PYTHON for language, _ in fences(ROOT / name))]
)
def test_python_of_a_page_runs_in_order(name, here):
    known = {"__name__": "__main__"}
    for number, text in enumerate(text for language, text in fences(ROOT / name) if language == PYTHON):
        exec(compile(text, f"{name}, block {number + 1}", "exec"), known)


def test_the_build_executes_notebooks_and_stops_at_errors():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "execute: true" in text
    assert "allow_errors: false" in text


@pytest.mark.parametrize("name", NAMES)
def test_experiments_that_are_named_are_tested(name):
    said = [*commands(ROOT / name), *spans(ROOT / name)]
    named = {found for text in said for found in re.findall(r"-m experiments\.([\w.]+)", text)} - {"studies.NAME"}
    for experiment in named:
        assert experiment in EXPERIMENTS, f"{name}: nothing runs experiments.{experiment}"
        _, _, module = experiment.rpartition(".")
        assert module in (ROOT / EXPERIMENTS[experiment]).read_text(encoding="utf-8")


def test_every_option_that_is_named_exists():
    known = set(OTHER_OPTIONS)
    command_line = typer.main.get_command(main.app)
    for command in (command_line, *command_line.commands.values()):
        known |= {option for parameter in command.params for option in parameter.opts}
    for path in (ROOT / "experiments").rglob("*.py"):
        known |= set(OPTION.findall(path.read_text(encoding="utf-8")))
    unknown = {
        f"{name}: {option}"
        for name in NAMES
        for span in spans(ROOT / name)
        for option in OPTION.findall(span)
        if option not in known and span not in ELSEWHERE
    }
    assert unknown == set()


# Pages say what there is.


def code_on(name: str) -> set[str]:
    return set(spans(DOCS / name))


def test_every_key_and_column_is_told(stand_ins):
    told = code_on("files.md")
    content = json.loads((stand_ins / "run" / "report.json").read_text(encoding="utf-8"))
    keys = {*content, *content["seconds"], *content["estimate"], *content["settings"]["resolved"], "resolved"}
    keys |= {key for entry in (*content["frames"], *content["inputs"]) for key in entry}
    keys |= {key for pair in content["doubt"] for entry in pair for key in entry}
    for run, table in (("run", report.METRICS), ("run", report.ROUNDS), ("bridge", report.CONVERGENCE)):
        keys |= set((stand_ins / run / table).read_text(encoding="utf-8").splitlines()[0].split(","))
    keys |= set(report.DOMAIN_COLUMNS)
    assert keys - told == set()


def test_every_file_of_a_run_is_told(stand_ins):
    told = code_on("files.md")
    found = [path.relative_to(stand_ins / "run") for path in (stand_ins / "run").rglob("*") if path.is_file()]
    frames = {name.format(index) for name in ("vol_{:03d}.mrc", "{:03d}.json") for index in range(3)}
    for path in found:
        name = path.stem if path.parts[0] == "figures" else path.name
        assert name in told | frames, path


def test_every_public_name_has_its_place_in_the_api():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    shown = {line.removeprefix("::: ").split(".")[-1] for line in text.splitlines() if line.startswith("::: ")}
    assert set(morphot_jax.__all__) - shown == {"__version__"}


def test_every_room_is_on_the_plan():
    rooms = {path.parent.name for path in Path(morphot_jax.__file__).parent.glob("*/__init__.py")}
    assert rooms
    assert rooms - code_on("contributing.md") == set()


# Links, versions, how to cite.


def slug(heading: str) -> str:
    """The anchor of a heading, as sites of repositories make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("https://")]
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_the_newest_change_is_this_version():
    versions = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == morphot_jax.__version__


def test_the_citation_has_what_the_format_asks_for():
    """Of https://citation-file-format.github.io, version 1.2.0."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert all({"name"} == set(author) for author in citation["authors"])
    assert citation["version"] == morphot_jax.__version__
    assert citation["license"] == "MIT"
    assert "10.3934/math.2022059" in citation["message"]
