"""What people see in the terminal: progress while it runs, a table at the end, one line when it fails."""

import io
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from morphot_jax.morphing.field import Domain
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Progress as Step
from morphot_jax.morphing.settings import Settings, with_method
from morphot_jax.morphing.trajectory import Frame, Trajectory
from morphot_jax.prepare.align import Alignment
from morphot_jax.runs.estimate import STARTING, Estimate
from morphot_jax.runs.log import DEBUG, ERROR, INFO, WARNING, Journal
from morphot_jax.system import memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent
from morphot_jax.transport.status import Status

ROWS = 13  # frames in the table; the others are in metrics.csv
COLUMNS = ("frame", "t", "mass", "iterations", "marginal error", "status")
DISPENSABLE = ("mass", "iterations", "t")  # in this order, where a terminal is too narrow; metrics.csv has them
COLOURS = {Status.CONVERGED: "green", Status.FIXED_ITERATIONS: "green"}
LOG_WIDTH = 160  # characters of a table in a log
BAR_WIDTH = 24
BESIDE_BAR = 66  # characters of a line of progress beside its bar
SECONDS_BETWEEN_LINES = 10.0  # of progress, in the log


class _TimeLeft(ProgressColumn):
    """Seconds left: as the work tells them, else by the share of it that is done, else by what was expected."""

    def render(self, task: Task) -> Text:
        left = _seconds_left(task)
        return Text("" if left is None else f"{_clock(left)} left", style="cyan")


def _seconds_left(task: Task) -> float | None:
    elapsed = task.elapsed or 0.0
    if (end := task.fields.get("end")) is not None:
        return max(0.0, end - task.get_time())
    if task.total and task.completed:
        return elapsed * max(0.0, task.total - task.completed) / task.completed
    expected = (task.fields.get("expected") or 0.0) - elapsed
    return expected if expected > 0 else None


@dataclass
class _Pace:
    """Seconds left of a solve: as it tells them, or by how fast frames are made where their plan is solved."""

    since: float
    before: int = 0

    def left(self, step: Step, now: float) -> float | None:
        if not self.making(step):
            self.since, self.before = now, step.done
            return step.seconds_left
        return (now - self.since) * (step.lanes - step.done) / (step.done - self.before)

    def making(self, step: Step) -> bool:
        """Whether frames are made now."""
        return step.seconds_left is None and step.done > self.before


class Terminal:
    """Standard error for people, and the log of a run (``keep_log``).

    ``quiet`` says nothing but errors, and ``verbose`` more; the log has all. As a context, it notes in the log how
    the block ended.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False):
        if quiet and verbose:
            raise InputError("--quiet and --verbose were both given: choose one of them")
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.verbose = verbose
        self.journal = Journal(self.warn)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, InputError):
            self.journal.add(ERROR, str(error))
        elif isinstance(error, KeyboardInterrupt):
            self.journal.add(ERROR, "interrupted")
        elif error is not None:
            self.journal.add(ERROR, "".join(traceback.format_exception(error)))

    def keep_log(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write what is said into a file too, from now on, and what was said before (``Journal.begin``)."""
        self.journal.begin(path, heading, append=append)

    def say(self, text: str) -> None:
        """A plain line."""
        self.console.print(escape(text), soft_wrap=True)
        self.journal.add(INFO, text)

    def warn(self, text: str) -> None:
        """A line that should not be missed."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)
        self.journal.add(WARNING, text)

    def detail(self, text: str) -> None:
        """A line for those who asked for more."""
        if self.verbose:
            self.console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)
        self.journal.add(DEBUG, text)

    @contextmanager
    def solving(self, expected: float | None = STARTING) -> Iterator[Callable[[Step], None]]:
        """A progress bar for as long as the block runs; the block reports to what it is given.

        ``expected``: seconds that are thought to be left, until the solve tells better.
        """
        self.journal.add(DEBUG, "compiling and solving")
        pace, logged = _Pace(time.monotonic()), time.monotonic()
        with self._bar(MofNCompleteColumn()) as bar:
            task = bar.add_task("compiling", total=None, end=None, expected=expected)

            def report(step: Step) -> None:
                nonlocal logged
                now, making = time.monotonic(), pace.making(step)
                left = pace.left(step, now)
                text = "making frames" if making else self._iteration(step)
                end = None if left is None else now + left
                bar.update(task, description=text, completed=step.done, total=step.lanes, end=end)
                if now - logged > SECONDS_BETWEEN_LINES:
                    logged = now
                    self.journal.add(DEBUG, f"{text}, {step.done} of {step.lanes} done")

            yield report

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[float, float], None]]:
        """A progress bar for as long as the block runs; the block reports the work done, and all there is."""
        self.journal.add(DEBUG, what)
        with self._bar() as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def downloading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar of bytes for as long as the block runs; the block reports to what it is given."""
        self.journal.add(DEBUG, f"downloading {name}")
        with self._bar(DownloadColumn()) as bar:
            task = bar.add_task(escape(name), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)

    def _iteration(self, step: Step) -> str:
        if self._narrow:
            return f"{step.iteration}: error {step.marginal_error:.0e}"
        return f"iteration {step.iteration:4d}, marginal error {step.marginal_error:.1e}"

    @property
    def _narrow(self) -> bool:
        return self.console.width < BESIDE_BAR

    def _bar(self, *counts: ProgressColumn) -> Progress:
        """A line that goes when it is done; none where nobody could see it move."""
        sign = SpinnerColumn("dots" if self.console.encoding.startswith("utf") else "line")
        room = min(BAR_WIDTH, self.console.width - BESIDE_BAR)
        bar = [BarColumn(bar_width=room)] if room >= BAR_WIDTH // 3 else []
        clock = [] if self._narrow else [TimeElapsedColumn()]
        seen = self.console.is_interactive and self.console.file.isatty() and not self.console.quiet
        columns = (sign, TextColumn("{task.description}"), *bar, *counts, *clock, _TimeLeft())
        return Progress(*columns, console=self.console, transient=True, disable=not seen)

    def _show(self, table: Table, in_log: Table | None = None) -> None:
        """Print a table, and keep it, or a longer one, as text."""
        self.console.print(table)
        self.journal.add(INFO, _as_text(in_log or table))

    def _width_of(self, table: Table) -> int:
        """Characters of its lines where there is room for all of them."""
        return self.console.measure(table, options=self.console.options.update_width(LOG_WIDTH)).maximum

    def outlook(
        self, settings: Settings, plan: Plan | None, expected: Estimate, frames: int, *, in_full: bool
    ) -> None:
        """How the solve is going to be made, and what it will take: ``in_full``, in place of it."""
        room, more = memory.free(), expected.memory - (memory.held() or 0)
        if room is not None and more > room:
            self.warn(
                f"about {_gib(more)} more memory will be needed and {_gib(room)} are free: a smaller --grid helps"
            )
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("frames", str(frames))
        for name, value, reason in _choices(settings, plan):
            table.add_row(name, value, escape(reason))
        table.add_row("memory", _gib(expected.memory), "" if room is None else f"{_gib(room)} are free")
        if expected.seconds is not None:
            table.add_row("time", f"about {_clock(expected.seconds)}")
        if in_full or self.verbose:
            self.console.print(table)
        self.journal.add(DEBUG, _as_text(table))
        if in_full:
            self.say("nothing was solved or written (--dry-run)")

    def summary(self, trajectory: Trajectory, seconds: dict[str, float]) -> None:
        """The frames in a table, and where the time went."""
        frames = trajectory.frames
        step = -(-len(frames) // ROWS)
        shown = frames if self.verbose else [f for f in frames if f.index % step == 0 or f is frames[-1]]
        columns = list(COLUMNS)
        for spare in DISPENSABLE:
            if self._width_of(_table_of(shown, columns)) > self.console.width:
                columns.remove(spare)
        self._show(_table_of(shown, columns), _table_of(frames, COLUMNS))
        self._time(seconds)

    def ordering(self, ordering: Ordering, names: Sequence[str], seconds: dict[str, float]) -> None:
        """The maps by their places, and where the time went."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("rank", "map", "t", "distance"):
            table.add_column(title, justify="left" if title == "map" else "right", overflow="fold")
        for rank, i in enumerate(ordering.order, start=1):
            least = ordering.distances[i].min()
            table.add_row(str(rank), escape(str(names[i])), f"{ordering.places[i]:.3f}", f"{least:.3f}")
        self._show(table)
        self._time(seconds)

    def domains(self, domains: Sequence[Domain]) -> None:
        """How each part of a map moves."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("domain", "of the mass", "mean Å", "turns by", "about", "slides Å", "rest Å"):
            table.add_column(title, justify="left" if title in ("domain", "about") else "right", overflow="fold")
        for domain in domains:
            pose = domain.pose
            axis = ", ".join(f"{value:.2f}" for value in pose.axis)
            table.add_row(
                escape(domain.name),
                percent(domain.share),
                f"{domain.length:.2f}",
                f"{pose.degrees:.1f}°",
                f"({axis})",
                f"{pose.slide:.2f}",
                f"{domain.rest:.2f}",
            )
        self._show(table)

    def alignment(self, found: Alignment) -> None:
        """The motion in words."""
        pose = found.pose
        hand = "its mirror image (x to -x), " if pose.mirrored else ""
        axis, shift = (", ".join(f"{value:.3f}" for value in vector) for vector in (pose.axis, pose.shift))
        self.say(f"{hand}turned by {pose.degrees:.2f}° about ({axis}), then shifted by ({shift}) Å")
        self.say(f"correlation {found.before:.4f} before, {found.correlation:.4f} after")
        if found.other_hand is not None:
            used, other = ("mirrored", "as given") if pose.mirrored else ("as given", "mirrored")
            self.say(f"fits better {used}; {other} the correlation is {found.other_hand:.4f} at best")

    def _time(self, seconds: dict[str, float]) -> None:
        self.say(", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))


def _table_of(frames: Sequence[Frame], columns: Sequence[str]) -> Table:
    """Some columns of ``COLUMNS`` for some frames."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "status" else "right", overflow="fold")
    for frame in frames:
        error = "-" if frame.marginal_error is None else f"{frame.marginal_error:.1e}"
        colour = COLOURS.get(frame.status, "red")
        status = f"[{colour}]{frame.status}[/{colour}]"
        values = (frame.index, f"{frame.time:.4g}", f"{frame.mass:.6g}", frame.iterations, error, status)
        table.add_row(*(str(value) for name, value in zip(COLUMNS, values, strict=True) if name in columns))
    return table


def _choices(settings: Settings, plan: Plan | None) -> list[tuple[str, str, str]]:
    """Name, value and reason of each automatic choice."""
    rows = {"method": with_method(settings)[0].method}
    if plan is not None:
        z, y, x = plan.extent
        widths = " x ".join(f"{value:.4g}" for value in dict.fromkeys(plan.sigma))
        rows |= {
            "box": f"{x} x {y} x {z} voxels around the maps",
            "sigma": f"{widths} voxels",
            "kernel": plan.kernel,
            "precision": plan.precision,
            "batch": str(plan.batch),
            "relaxation": f"{plan.relaxation.w:.3g}",
        }
    reasons = {} if plan is None else plan.reasons
    return [(name, value, reasons.get(name, "")) for name, value in rows.items()]


def _as_text(table: Table) -> str:
    """A table without colours, whatever the terminal."""
    file = io.StringIO()
    Console(file=file, width=LOG_WIDTH, force_terminal=False, color_system=None, no_color=True).print(table)
    return file.getvalue()


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
