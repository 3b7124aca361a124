"""Settings: what cannot be used is refused in words when it is made."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from morphot_jax.morphing.settings import ORDERING, Settings, with_method
from morphot_jax.system.errors import InputError


def refused(**values):
    """The message that refuses settings, which is one line."""
    with pytest.raises(InputError) as caught:
        Settings(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "end"), [("brige", "; did you mean 'bridge'?"), ("Mixed", "; did you mean 'mixed'?"), (3, "linear")]
)
def test_the_nearest_word_is_asked_for(given, end):
    assert refused(method=given).endswith(end)


@pytest.mark.parametrize("name", ["iterations", "max_iterations"])
def test_counts_beyond_any_machine_are_refused_in_words(name):
    assert f"{name} is 1000" in refused(**{name: 10**23})
    assert "from 1 to 1000000" in refused(**{name: 10**400})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sigma": 1.5, "sigma_angstrom": 4.0}, ["1.5 voxels", "4 Å", "give one"]),
        ({"debias": True, "method": "bridge"}, ["method 'bridge' has nothing to debias", "barycenter or mixed"]),
        ({"debias": True, "kernel": "truncated"}, ["'truncated'", "does not debias"]),
        ({"debias": True, "relaxation": 1.5}, ["relaxation is 1.5", "debiased barycenters do not use"]),
        ({"method": "bridge", "kernel": "dense"}, ["kernel 'dense'", "method 'bridge'", "auto or heat"]),
        ({"stride": 2, "kernel": "fft"}, ["stride is 2 and kernel is fft", "takes all voxels", "leave out one"]),
        ({"stride": 2, "method": "barycenter", "debias": True}, ["stride is 2 and debias is True"]),
        ({"stride": 2, "relaxation": 1.5}, ["stride is 2 and relaxation is 1.5"]),
        ({"stride": 3, "iterations": 20}, ["stride is 3 and iterations is 20"]),
        ({"stride": 2, "precision": "single"}, ["stride is 2 and precision is single"]),
        ({"stride": 0}, ["stride is 0", "from 1 to 8"]),
        ({"relaxation": 2.0}, ["relaxation is 2", "below 2"]),
        ({"relaxation": 2.5}, ["relaxation is 2.5", "below 2"]),
        ({"keyframes": 1}, ["keyframes is 1", "from 2 to 10000"]),
        ({"frames": 1}, ["frames is 1", "from 2 to 10000, or explicit times"]),
        ({"frames": -4}, ["frames is -4"]),
        ({"frames": 0, "times": (0.5,)}, ["frames is 0"]),
        ({"frames": 2.5}, ["frames is 2.5", "a whole number"]),
        ({"frames": np.array([3, 4])}, ["frames is array([3, 4])", "a whole number"]),
        ({"batch": True}, ["batch is True", "a whole number"]),
        ({"sigma": "wide"}, ["sigma is 'wide'", "a number above 0"]),
        ({"debias": 1}, ["debias is 1", "True or False"]),
        ({"times": (0.0, 1.5)}, ["times holds 1.5", "from 0 to 1"]),
        ({"times": (-0.1, 0.5, 7.0)}, ["-0.1, 7:"]),
        ({"times": (float("nan"),)}, ["nan"]),
        ({"times": ()}, ["nothing"]),
        ({"times": ("half",)}, ["'half'"]),
        ({"times": 0.5}, ["times is 0.5", "numbers from 0 to 1"]),
        ({"times": np.zeros((2, 2))}, ["times holds array([0., 0.])"]),
        ({"times": (0.5,), "rate": "ramp-up"}, ["rate is 'ramp-up'", "times", "give one of the two"]),
    ],
)
def test_what_cannot_be_used_is_refused_and_quoted(values, words):
    line = refused(**values)
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    "values", [{}, {"frames": 2}, {"times": (0.0,)}, {"times": (1.0, 0.0)}, {"relaxation": 1.99}]
)
def test_what_can_be_used_is_accepted(values):
    settings = Settings(**values)
    assert {name: getattr(settings, name) for name in values} == values


def test_changed_settings_are_checked_again():
    with pytest.raises(InputError, match="does not debias"):
        replace(Settings(kernel="truncated"), debias=True)


@pytest.mark.parametrize(
    "times", [[0, 0.5, 1], range(2), np.linspace(0, 1, 3), np.float32([0.25, 0.5]), jnp.array([0.5, 1.0])]
)
def test_times_may_be_any_sequence_or_array(times):
    settings = Settings(times=times)
    assert settings.times == tuple(float(time) for time in times)
    assert {type(time) for time in settings.times} == {float}
    hash(settings)


def test_scalars_of_numpy_become_plain_numbers():
    settings = Settings(frames=np.int64(7), sigma=np.float32(1.5), batch=np.array(3), debias=np.bool_(True))
    assert settings == Settings(frames=7, sigma=1.5, batch=3, debias=True)
    kinds = [type(value) for value in (settings.frames, settings.sigma, settings.batch, settings.debias)]
    assert kinds == [int, float, int, bool]


def test_maps_are_ordered_by_more_frames_than_are_morphed():
    assert Settings(method="displacement", frames=101) == ORDERING


@pytest.mark.parametrize(
    ("values", "method", "reason"),
    [
        ({}, "rigid", "nearest"),
        ({"tolerance": 1e-5}, "rigid", "nearest"),
        ({"symmetry": "C3"}, "rigid", "symmetry is 'C3'"),
        ({"kernel": "dense"}, "displacement", "kernel is 'dense', which displacement has and rigid has not"),
        ({"max_iterations": 900}, "displacement", "max_iterations is 900"),
        ({"iterations": 20}, "displacement", "iterations is 20"),
        ({"relaxation": 1.0}, "displacement", "relaxation is 1.0"),
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
