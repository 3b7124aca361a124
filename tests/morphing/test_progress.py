"""Seconds of compiling and of solving."""

import time

import jax
import numpy as np

from morphot_jax.morphing.progress import Clock


def test_what_is_compiled_within_a_solve_counts_as_compiling():
    number = time.time()  # of no code that was compiled before

    @jax.jit
    def tangled(x):
        for step in range(20):
            x = np.float32(number + step) * x[::-1] + step
        return x

    first, later = Clock(), Clock()
    for clock in (first, later):
        with clock.solving():
            jax.block_until_ready(tangled(np.arange(4.0, dtype=np.float32)))
    assert first.compile > 0.0
    assert first.solve >= 0.0
    assert later.compile == 0.0
    assert later.solve > 0.0
