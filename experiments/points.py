"""Run the missing points of an experiment's share, with a line on the terminal for each."""

from collections.abc import Callable, Iterable
from functools import partial

from morphot_jax.runs.sweep import Outcome, Row, Settings, Shard, Step, Sweep

Compute = Callable[[list[Settings]], Iterable[Outcome]]


def one_by_one(measure: Callable[[Settings], Outcome]) -> Compute:
    """Turn a function of a single point into the ``compute`` of ``run``."""
    return partial(map, measure)


def run(sweep: Sweep, compute: Compute, share: Shard | None = None, **options) -> list[Row]:
    """Compute the missing points of a share; return the table's rows if all points are done, else none."""
    varying = [name for name in sweep.columns if len({str(p.get(name)) for p in sweep.points.values()}) > 1]

    def report(step: Step) -> None:
        settings = ", ".join(f"{name} {_short(step.settings[name])}" for name in varying if name in step.settings)
        outcome = step.failed or f"{step.seconds:.1f} s"
        remaining = f", about {_duration(step.seconds_left)} left" if step.done < step.total else ""
        print(f"{step.done}/{step.total} {settings}: {outcome}{remaining}", flush=True)

    sweep.run(compute, shard=share, report=report, **options)
    if missing := len(sweep.missing()):
        print(
            f"{missing} of {len(sweep.points)} points are missing: figures and claims are made after the last one"
        )
        return []
    return sweep.rows()


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
