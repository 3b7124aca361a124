"""What people see in the terminal: progress while it runs, a table at the end, one line when it fails."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

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
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from morphot_jax import memory
from morphot_jax.align import Alignment
from morphot_jax.batches import Progress as Step
from morphot_jax.estimate import Estimate
from morphot_jax.field import Domain
from morphot_jax.iterate import Status
from morphot_jax.order import Ordering
from morphot_jax.plan import Plan
from morphot_jax.settings import Settings, with_method
from morphot_jax.trajectory import Trajectory

ROWS = 13  # frames in the table; the others are in metrics.csv
COLOURS = {Status.CONVERGED: "green", Status.FIXED_ITERATIONS: "green"}


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        return Text("" if left is None else f"{_clock(left)} left", style="cyan")


class Terminal:
    """Standard error for people; ``quiet`` says nothing but errors."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False):
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.verbose = verbose

    def say(self, text: str) -> None:
        """A plain line."""
        self.console.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that should not be missed."""
        self.console.print(f"[yellow]note:[/yellow] {escape(text)}", soft_wrap=True)

    def detail(self, text: str) -> None:
        """A line for those who asked for more."""
        if self.verbose:
            self.console.print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)

    def busy(self, what: str) -> AbstractContextManager:
        """A sign of life for as long as the block runs."""
        return self.console.status(what)

    @contextmanager
    def solving(self) -> Iterator[Callable[[Step], None]]:
        """A progress bar for as long as the block runs; the block reports to what it is given."""
        with self._bar(SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn(), _TimeLeft()) as bar:
            task = bar.add_task("compiling", total=None, left=None)

            def report(step: Step) -> None:
                text = f"iteration {step.iteration:4d}, marginal error {step.marginal_error:.1e}"
                bar.update(task, description=text, completed=step.done, total=step.lanes, left=step.seconds_left)

            yield report

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar for as long as the block runs; the block reports the work done, and all there is."""
        with self._bar(SpinnerColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def downloading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar of bytes for as long as the block runs; the block reports to what it is given."""
        with self._bar(SpinnerColumn(), DownloadColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(escape(name), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)

    def _bar(self, sign: ProgressColumn, *counts: ProgressColumn) -> Progress:
        """A line that goes when it is done; none where nobody could see it move."""
        words, bar = TextColumn("{task.description}"), BarColumn(bar_width=24)
        hidden = not self.console.is_terminal
        return Progress(sign, words, bar, *counts, console=self.console, transient=True, disable=hidden)

    def outlook(
        self, settings: Settings, plan: Plan | None, expected: Estimate, frames: int, *, in_full: bool
    ) -> None:
        """What the solve will take, and, in full, how it is going to be made."""
        room, more = memory.free(), expected.memory - (memory.held() or 0)
        if room is not None and more > room:
            self.warn(
                f"about {_gib(more)} more memory will be needed and {_gib(room)} are free: a smaller --grid helps"
            )
        took = "" if expected.seconds is None else f"about {_clock(expected.seconds)} and "
        if not in_full:
            self.detail(f"{frames} frames, {took}{_gib(expected.memory)} of memory")
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_row("frames", str(frames))
        method = with_method(settings)[0].method
        if plan is None:
            table.add_row("method", method)
        else:
            z, y, x = plan.extent
            widths = " x ".join(f"{value:.4g}" for value in dict.fromkeys(plan.sigma))
            rows = {
                "method": method,
                "box": f"{x} x {y} x {z} voxels around the maps",
                "sigma": f"{widths} voxels",
                "kernel": plan.kernel,
                "precision": plan.precision,
                "batch": str(plan.batch),
                "relaxation": f"{plan.relaxation.w:.3g}",
            }
            for name, value in rows.items():
                reason = plan.reasons.get(name, "")
                table.add_row(name, value, escape(reason))
        table.add_row("memory", _gib(expected.memory), "" if room is None else f"{_gib(room)} are free")
        if expected.seconds is not None:
            table.add_row("time", f"about {_clock(expected.seconds)}")
        self.console.print(table)
        self.say("nothing was solved or written (--dry-run)")

    def summary(self, trajectory: Trajectory, seconds: dict[str, float]) -> None:
        """The frames in a table, and where the time went."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("frame", "t", "mass", "iterations", "marginal error", "status"):
            table.add_column(name, justify="left" if name == "status" else "right")
        frames = trajectory.frames
        step = -(-len(frames) // ROWS)
        shown = frames if self.verbose else [f for f in frames if f.index % step == 0 or f is frames[-1]]
        for frame in shown:
            error = "-" if frame.marginal_error is None else f"{frame.marginal_error:.1e}"
            colour = COLOURS.get(frame.status, "red")
            status = f"[{colour}]{frame.status.word}[/{colour}]"
            table.add_row(
                str(frame.index), f"{frame.time:.4g}", f"{frame.mass:.6g}", str(frame.iterations), error, status
            )
        self.console.print(table)
        self._time(seconds)

    def ordering(self, ordering: Ordering, names: Sequence[str], seconds: dict[str, float]) -> None:
        """The maps by their places, and where the time went."""
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("rank", "map", "t", "distance"):
            table.add_column(title, justify="left" if title == "map" else "right", overflow="fold")
        for rank, i in enumerate(ordering.order, start=1):
            least = ordering.distances[i].min()
            table.add_row(str(rank), escape(str(names[i])), f"{ordering.places[i]:.3f}", f"{least:.3f}")
        self.console.print(table)
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
                f"{domain.share:.1%}",
                f"{domain.length:.2f}",
                f"{pose.degrees:.1f}°",
                f"({axis})",
                f"{pose.slide:.2f}",
                f"{domain.rest:.2f}",
            )
        self.console.print(table)

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


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.2f} GiB"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
