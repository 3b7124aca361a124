"""The times of the frames."""

from typing import get_args

import numpy as np
import pytest

from morphot_jax.morphing.settings import Rate, Settings
from morphot_jax.morphing.times import frame_times

RATES = get_args(Rate)


def test_explicit_times_stay_as_they_are():
    times = frame_times(Settings(times=(0.7, 0.0, 0.7, 1.0)))
    assert times.dtype == np.float64
    assert times.tolist() == [0.7, 0.0, 0.7, 1.0]


@pytest.mark.parametrize(
    ("rate", "half"),
    [("linear", 0.5), ("sinusoidal", 0.5), ("ramp-up", 1 - np.sqrt(0.5)), ("ramp-down", np.sqrt(0.5))],
)
def test_rates_at_the_middle(rate, half):
    assert frame_times(Settings(rate=rate, frames=3))[1] == pytest.approx(half, abs=1e-15)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frames", [2, 3, 25, 100])
def test_every_rate_starts_at_zero_ends_at_one_and_never_turns_back(rate, frames):
    times = frame_times(Settings(rate=rate, frames=frames))
    assert len(times) == frames
    assert times[0] == 0.0
    assert times[-1] == 1.0
    assert (np.diff(times) > 0).all()


def test_ramps_mirror_each_other():
    up, down = (frame_times(Settings(rate=rate, frames=9)) for rate in ("ramp-up", "ramp-down"))
    np.testing.assert_allclose(up, 1 - down[::-1], atol=1e-15)
    assert np.diff(up)[0] < np.diff(up)[-1]


def test_sinusoidal_rate_is_slow_at_both_ends():
    times = frame_times(Settings(rate="sinusoidal", frames=9))
    np.testing.assert_allclose(times, 1 - times[::-1], atol=1e-15)
    assert np.diff(times).argmax() in (3, 4)
    assert times[1] == pytest.approx(np.sin(np.pi / 16) ** 2)
