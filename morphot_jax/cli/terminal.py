"""The terminal: progress while a run works, messages, and tables at its end."""

import io
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
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

from morphot_jax.morphing.coordinates import Coordinates
from morphot_jax.morphing.field import Domain
from morphot_jax.morphing.landscape import Landscape
from morphot_jax.morphing.order import Ordering
from morphot_jax.morphing.plan import Plan
from morphot_jax.morphing.progress import Progress as Step
from morphot_jax.morphing.rigid import RigidBody
from morphot_jax.morphing.settings import Settings, with_method
from morphot_jax.morphing.trajectory import Frame, Trajectory
from morphot_jax.prepare.align import Alignment
from morphot_jax.runs.estimate import STARTING, Estimate
from morphot_jax.runs.log import DEBUG, ERROR, INFO, WARNING, Log
from morphot_jax.system import memory
from morphot_jax.system.errors import InputError
from morphot_jax.system.reporting import percent
from morphot_jax.transport.status import Status

ROWS = 13  # of the table in the terminal; metrics.csv has every frame
COLUMNS = ("frame", "t", "mass", "iterations", "marginal error", "status")
DISPENSABLE = ("mass", "iterations", "t")  # columns left out, in this order, where a terminal is too narrow
COLOURS = {Status.CONVERGED: "green", Status.FIXED_ITERATIONS: "green"}
LOG_WIDTH = 160  # characters of a table in a log
BAR_WIDTH = 24
BESIDE_BAR = 66  # characters that a line of progress needs beside its bar
SECONDS_BETWEEN_LINES = 10.0  # between lines of progress in the log


class _TimeLeft(ProgressColumn):
    """The time left: what the work reports, else from the share that is done, else from what was expected."""

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
    """Seconds left of a solve: what it reports, or, once its plan is solved, from how fast frames are made."""

    since: float
    before: int = 0

    def left(self, step: Step, now: float) -> float | None:
        if not self.making(step):
            self.since, self.before = now, step.done
            return step.seconds_left
        return (now - self.since) * (step.lanes - step.done) / (step.done - self.before)

    def making(self, step: Step) -> bool:
        """Whether the plan is solved and frames are being made."""
        return step.seconds_left is None and step.done > self.before


class Terminal:
    """Messages and progress on standard error, and all messages in the log of a run (``keep_log``).

    ``quiet`` shows only errors; ``verbose`` shows details too. The log gets everything. Used as a context, it logs
    the error that ended the block.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False):
        if quiet and verbose:
            raise InputError("--quiet and --verbose were both given: choose one of them")
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.verbose = verbose
        self.log = Log(self.warn)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if isinstance(error, InputError):
            self.log.add(ERROR, str(error))
        elif isinstance(error, KeyboardInterrupt):
            self.log.add(ERROR, "interrupted")
        elif error is not None:
            self.log.add(ERROR, "".join(traceback.format_exception(error)))

    def keep_log(self, path: Path, heading: Sequence[str], *, append: bool) -> None:
        """Write all messages to a file too, earlier ones included (``Log.begin``)."""
        self.log.begin(path, heading, append=append)

    def say(self, text: str) -> None:
        """Information: a plain line."""
        self.console.print(escape(text), soft_wrap=True)
        self.log.add(INFO, text)

    def warn(self, text: str) -> None:
        """A warning: a line that begins with the word."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)
        self.log.add(WARNING, text)

    def complain(self, text: str) -> None:
        """An error that does not end the command."""
        self.console.print(f"morphot: error: {escape(text)}", soft_wrap=True)
        self.log.add(ERROR, text)

    def detail(self, text: str) -> None:
        """A detail: a line that only ``verbose`` shows."""
        if self.verbose:
            self.console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)
        self.log.add(DEBUG, text)

    @contextmanager
    def solving(self, expected: float | None = STARTING) -> Iterator[Callable[[Step], None]]:
        """Show a progress bar while the block runs; it gives the block a callback for its progress.

        ``expected``: seconds that the solve should take, used until it reports its own estimate.
        """
        self.log.add(DEBUG, "compiling and solving")
        pace, logged = _Pace(time.monotonic()), time.monotonic()
        with self._bar(MofNCompleteColumn()) as bar:
            task = bar.add_task("compiling", total=None, end=None, expected=expected)

            def report(step: Step) -> None:
                nonlocal logged
                now, making = time.monotonic(), pace.making(step)
                left = pace.left(step, now)
                text = "making frames" if making else step.doing or self._iteration(step)
                end = None if left is None else now + left
                bar.update(task, description=text, completed=step.done, total=step.lanes, end=end)
                if now - logged > SECONDS_BETWEEN_LINES:
                    logged = now
                    self.log.add(DEBUG, f"{text}, {step.done} of {step.lanes} done")

            yield report

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[float, float], None]]:
        """Show a progress bar while the block runs; the block reports the work done and the whole."""
        self.log.add(DEBUG, what)
        with self._bar() as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def downloading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show a progress bar while the block runs; the block reports the bytes received and the whole."""
        self.log.add(DEBUG, f"downloading {name}")
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
        """A line that disappears when the work is done; hidden where standard error is no terminal."""
        sign = SpinnerColumn("dots" if self.console.encoding.startswith("utf") else "line")
        width = min(BAR_WIDTH, self.console.width - BESIDE_BAR)
        bar = [BarColumn(bar_width=width)] if width >= BAR_WIDTH // 3 else []
        clock = [] if self._narrow else [TimeElapsedColumn()]
        visible = self.console.is_interactive and self.console.file.isatty() and not self.console.quiet
        columns = (sign, TextColumn("{task.description}"), *bar, *counts, *clock, _TimeLeft())
        return Progress(*columns, console=self.console, transient=True, disable=not visible)

    def _show(self, table: Table, in_log: Table | None = None) -> None:
        """Print a table, and log it, or ``in_log``, as text."""
        self.console.print(table)
        self.log.add(INFO, _as_text(in_log or table))

    def _width_of(self, table: Table) -> int:
        """Characters that a line of the table takes when nothing is wrapped."""
        return self.console.measure(table, options=self.console.options.update_width(LOG_WIDTH)).maximum

    def outlook(
        self, settings: Settings, plan: Plan | None, expected: Estimate, frames: int, *, in_full: bool
    ) -> None:
        """Show the choices of the solve, its memory and its time; ``in_full``: it is a dry run."""
        free, more = memory.free(), expected.memory - (memory.held() or 0)
        if free is not None and more > free:
            self.warn(f"about {_gib(more)} more memory is needed and {_gib(free)} is free: try a smaller --grid")
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("frames", str(frames))
        for name, value, reason in _choices(settings, plan):
            table.add_row(name, value, escape(reason))
        table.add_row("memory", _gib(expected.memory), "" if free is None else f"{_gib(free)} is free")
        if expected.seconds is not None:
            table.add_row("time", f"about {_clock(expected.seconds)}")
        if in_full or self.verbose:
            self.console.print(table)
        self.log.add(DEBUG, _as_text(table))
        if in_full:
            self.say("nothing was solved or written (--dry-run)")

    def summary(self, trajectory: Trajectory, seconds: dict[str, float]) -> None:
        """Show a table of the frames, one row for each group (``_solved_alike``), and the times of the parts."""
        frames = trajectory.frames
        labels = None if trajectory.settings.weights is None else trajectory.labels
        groups = _solved_alike(frames) if labels is None else [[frame] for frame in frames]
        step = -(-len(groups) // ROWS)
        rows = [[frame] for frame in frames] if self.verbose else [*groups[:-1:step], groups[-1]]
        columns = list(COLUMNS)
        for spare in DISPENSABLE:
            if self._width_of(_table_of(rows, columns, labels)) > self.console.width:
                columns.remove(spare)
        self._show(_table_of(rows, columns, labels), _table_of(groups, COLUMNS, labels))
        self._times(seconds)

    def ordering(self, ordering: Ordering, names: Sequence[str], seconds: dict[str, float]) -> None:
        """Show a table of the maps in their order, and the times of the parts."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("rank", "map", "t", "distance", ""):
            table.add_column(title, justify="left" if title in ("map", "") else "right", overflow="fold")
        for rank, i in enumerate(ordering.order, start=1):
            least = ordering.least[i]
            far = "off the path" if ordering.off_path[i] else ""
            table.add_row(str(rank), escape(str(names[i])), f"{ordering.places[i]:.3f}", f"{least:.3f}", far)
        self._show(table)
        self._times(seconds)

    def coordinates(self, found: Coordinates, names: Sequence[str], references: Sequence[str]) -> None:
        """Show a table of the weights of each map."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("map", *(f"weight {k}" for k in range(1, len(references) + 1)), "residual", ""):
            table.add_column(title, justify="left" if title in ("map", "") else "right", overflow="fold")
        for name, weights, spread, residual, far in zip(
            names, found.weights, found.deviations, found.residuals, found.far, strict=True
        ):
            values = (f"{weight:.3f} ± {one:.3f}" for weight, one in zip(weights, spread, strict=True))
            table.add_row(escape(str(name)), *values, f"{residual:.3f}", "far" if far else "")
        self._show(table)
        for k, reference in enumerate(references, 1):
            self.say(f"weight {k}: {reference}")
        self._times({"compile": found.clock.compile, "solve": found.clock.solve})

    def landscape(self, found: Landscape, names: Sequence[str], seconds: dict[str, float]) -> None:
        """Show a table of the maps in their order, and the times of the parts."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("rank", "map", "Å from the one before", "on the path"):
            table.add_column(
                title, justify="left" if title in ("map", "on the path") else "right", overflow="fold"
            )
        order = found.order.indices.tolist()
        steps = ["", *(f"{found.distances[a, b]:.3g}" for a, b in pairwise(order))]
        for rank, (k, step) in enumerate(zip(order, steps, strict=True), start=1):
            table.add_row(str(rank), escape(str(names[k])), step, "yes" if k in found.path else "")
        self._show(table)
        self.say(f"{percent(found.order.agreement)} of the triples of maps agree with this order")
        self._times(seconds)

    def domains(self, domains: Sequence[Domain]) -> None:
        """Show a table of how each domain moves."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("domain", "of the mass", "mean Å", "turns by", "about", "slides Å", "rest Å", "found"):
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
                {None: "", True: "yes", False: "no"}[domain.settled],
            )
        self._show(table)

    def bodies(self, bodies: Sequence[RigidBody]) -> None:
        """Show a table of how each body moves."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("body", "of the mass", "moves Å", "turns by", "about", "misfit"):
            table.add_column(title, justify="left" if title in ("body", "about") else "right", overflow="fold")
        for body in bodies:
            axis = ", ".join(f"{value:.2f}" for value in body.pose.axis)
            turn = f"{body.pose.degrees:.1f}°"
            mass = percent(sum(body.mass) / 2.0)
            table.add_row(escape(body.name), mass, f"{body.shift:.1f}", turn, f"({axis})", f"{body.misfit:.2f}")
        self._show(table)

    def alignment(self, found: Alignment) -> None:
        """Show the motion in words, and the correlations."""
        pose = found.pose
        hand = "its mirror image (x to -x), " if pose.mirrored else ""
        axis, shift = (", ".join(f"{value:.3f}" for value in vector) for vector in (pose.axis, pose.shift))
        self.say(f"{hand}turned by {pose.degrees:.2f}° about ({axis}), then shifted by ({shift}) Å")
        self.say(f"correlation {found.before:.4f} before, {found.correlation:.4f} after")
        if found.equal_poses > 1:
            self.say(f"{found.equal_poses} poses fit equally well; this one moves the map least")
        if (other := found.runner_up) is not None:
            apart = f"{other.distance:.1f} Å and {other.degrees:.0f}° away"
            self.say(f"the next best pose, {apart}, has a correlation of {other.correlation:.4f}")
        if found.other_hand is not None:
            used, other = ("mirrored", "as given") if pose.mirrored else ("as given", "mirrored")
            self.say(f"fits better {used}; {other} the correlation is {found.other_hand:.4f} at best")

    def _times(self, seconds: dict[str, float]) -> None:
        self.say(", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))


def _solved_alike(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups of neighbouring frames with the same status, iterations and error, such as the frames of one plan."""

    def solve(frame: Frame) -> tuple[Status, int, str]:
        return frame.status, frame.iterations, repr(frame.marginal_error)  # as text: NaN is not equal to NaN

    return [list(group) for _, group in groupby(frames, solve)]


def _table_of(
    rows: Sequence[Sequence[Frame]], columns: Sequence[str], labels: Sequence[str] | None = None
) -> Table:
    """The ``columns`` of ``COLUMNS``, one row for each group of frames; ``labels``: of frames that have no t."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        title = "weights" if name == "t" and labels else name
        table.add_column(title, justify="left" if name == "status" else "right", overflow="fold")
    for group in rows:
        first, last = group[0], group[-1]
        times, masses = [frame.time for frame in group], [frame.mass for frame in group]
        error = "-" if first.marginal_error is None else f"{first.marginal_error:.1e}"
        colour = COLOURS.get(first.status, "red")
        values = (
            _range(str(first.index), str(last.index)),
            labels[first.index] if labels else _range(f"{min(times):.4g}", f"{max(times):.4g}"),
            _range(f"{min(masses):.6g}", f"{max(masses):.6g}"),
            str(first.iterations),
            error,
            f"[{colour}]{first.status}[/{colour}]",
        )
        table.add_row(*(value for name, value in zip(COLUMNS, values, strict=True) if name in columns))
    return table


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"


def _choices(settings: Settings, plan: Plan | None) -> list[tuple[str, str, str]]:
    """Name, value and reason of each choice."""
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
            "relaxation": f"{plan.relaxation.w:.3g}" if plan.relaxation else "multilevel",
        }
        if plan.stride > 1:
            rows["stride"] = f"{plan.stride} voxels"
    reasons = {} if plan is None else plan.reasons
    return [(name, value, reasons.get(name, "")) for name, value in rows.items()]


def _as_text(table: Table) -> str:
    """The table as plain text, without colours."""
    file = io.StringIO()
    Console(file=file, width=LOG_WIDTH, force_terminal=False, color_system=None, no_color=True).print(table)
    return file.getvalue()


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
