"""Settings: what cannot be used is refused in words, and the times of the frames."""

import numpy as np
import pytest

from morphot_jax.morphing.settings import POSITIVE, Settings, check_settings, frame_times, with_method
from morphot_jax.system import words
from morphot_jax.system.errors import InputError

RATES = words.SETTINGS["rate"]


def unchecked(**values):
    """Settings with values that the type checker would not let through."""
    settings = Settings()
    for name, value in values.items():
        object.__setattr__(settings, name, value)
    return settings


@pytest.mark.parametrize("name", list(words.SETTINGS))
def test_unknown_words_are_refused_with_the_known_ones(name):
    with pytest.raises(InputError) as caught:
        check_settings(unchecked(**{name: "nonsense"}))
    assert f"{name} 'nonsense'" in str(caught.value)
    assert [word for word in words.SETTINGS[name] if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("given", "end"), [("brige", "; did you mean 'bridge'?"), ("Mixed", "; did you mean 'mixed'?"), (3, "linear")]
)
def test_the_nearest_word_is_asked_for(given, end):
    with pytest.raises(InputError) as caught:
        check_settings(unchecked(method=given))
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize("name", list(words.SETTINGS))
def test_every_known_word_is_accepted(name):
    for word in words.SETTINGS[name]:
        check_settings(unchecked(**{name: word}))


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -3])
def test_what_must_be_positive_is_refused_otherwise(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}: .*above 0"):
        check_settings(unchecked(**{name: value}))


@pytest.mark.parametrize("name", ["sigma", "sigma_angstrom", "tolerance", "relaxation"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(name, value):
    with pytest.raises(InputError, match=f"{name} is {value}"):
        check_settings(Settings(**{name: value}))


@pytest.mark.parametrize("name", ["iterations", "max_iterations"])
def test_counts_beyond_any_machine_are_refused_in_words(name):
    with pytest.raises(InputError, match=name):
        check_settings(Settings(**{name: 10**23}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sigma": 1.5, "sigma_angstrom": 4.0}, ["1.5 voxels", "4 Å", "give one"]),
        ({"debias": True, "method": "bridge"}, ["method 'bridge' has nothing to debias", "barycenter or mixed"]),
        ({"debias": True, "kernel": "truncated"}, ["'truncated'", "does not debias"]),
        ({"debias": True, "relaxation": 1.5}, ["relaxation is 1.5", "not relaxed but mixed"]),
        ({"relaxation": 2.0}, ["relaxation is 2", "below 2"]),
        ({"relaxation": 2.5}, ["relaxation is 2.5", "below 2"]),
        ({"keyframes": 1}, ["keyframes is 1", "2 or more"]),
        ({"frames": 1}, ["frames is 1", "2 or more"]),
        ({"frames": -4}, ["frames is -4"]),
        ({"times": (0.0, 1.5)}, ["1.5", "from 0 to 1"]),
        ({"times": (-0.1, 0.5, 7.0)}, ["-0.1", "7.0"]),
        ({"times": (float("nan"),)}, ["nan"]),
        ({"times": ()}, ["nothing"]),
        ({"times": (0.5,), "rate": "ramp-up"}, ["rate 'ramp-up'", "times", "exclude"]),
    ],
)
def test_contradictions_are_refused_and_quoted(values, words):
    with pytest.raises(InputError) as caught:
        check_settings(Settings(**values))
    line = str(caught.value)
    assert "\n" not in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"frames": 2},
        {"times": (0.0,)},
        {"times": (1.0, 0.0)},
        {"relaxation": 1.99},
        {"frames": 0, "times": (0.5,)},
    ],
)
def test_what_can_be_used_is_accepted(values):
    check_settings(Settings(**values))


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


@pytest.mark.parametrize(
    ("values", "method", "reason"),
    [
        ({}, "displacement", "nearest"),
        ({"kernel": "dense"}, "displacement", "nearest"),
        ({"kernel": "truncated", "mass": "original"}, "barycenter", "kernel is 'truncated'"),
        ({"mass": "original"}, "barycenter", "mass is 'original'"),
        ({"criterion": "change_l1"}, "barycenter", "criterion is 'change_l1'"),
        ({"precision": "single"}, "barycenter", "precision is 'single'"),
        ({"debias": True}, "barycenter", "debias is True"),
        ({"method": "linear"}, "linear", "asked for"),
    ],
)
def test_auto_takes_the_method_that_the_other_settings_belong_to(values, method, reason):
    settings, why = with_method(Settings(**values))
    assert settings.method == method
    assert reason in why
    check_settings(Settings(**values))
