# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fit a trajectory to a noisy map
#
# Two maps show a protein open and closed. A third map is noisy, blurred, and lies somewhere between them. This
# page asks at which time t of the trajectory it lies, and by how much it is shifted. Gradient descent with
# [optax](https://optax.readthedocs.io) finds both, and the blur with them, because solves have
# [derivatives](../method.md#derivatives).
#
# The page is a script, `docs/examples/fitting.py`. It runs when the pages are built, so every number in an
# output is measured.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython.display import Markdown

from morphot_jax import kernels, solve_barycenter
from morphot_jax.maps.atoms import Atoms, interpolate_linearly, simulate_density
from morphot_jax.maps.samples import sample_atoms

jax.config.update("jax_enable_x64", True)  # double precision, on the whole page

# %% [markdown]
# ## Three maps
#
# The open and the closed map of adenylate kinase are simulated from atoms, at 10 Å on 32^3 voxels of 2.25 Å.
#
# The third map comes from atoms too, and never from the trajectory. Every atom goes 35 % of its straight way
# from open to closed. All atoms then move by less than a voxel, and the map is made at 14 Å. So t, the shift and
# the blur are known, and the fit is not told.

# %%
GRID, VOXEL = 32, 2.25  # voxels along an axis, Å
TIME, SHIFT = 0.35, np.array([1.4, -0.9, 0.6])  # the truth; Å along x, y, z


def simulated(atoms, resolution):
    corner = (-GRID // 2 * VOXEL,) * 3
    return simulate_density(atoms, shape=GRID, voxel_size=VOXEL, resolution=resolution, origin=corner).data


ends = sample_atoms("adk-open"), sample_atoms("adk-closed")
maps = jnp.stack([simulated(atoms, 10.0) for atoms in ends])
between = interpolate_linearly(*ends, TIME)
clean = simulated(Atoms(between.positions + SHIFT, between.weights), 14.0)


def noisy(share):
    """The third map with white noise; its standard deviation is a share of the highest density."""
    noise = np.random.default_rng(round(100 * share)).standard_normal(clean.shape)
    return jnp.asarray(clean + share * clean.max() * noise)


far = np.linalg.norm(ends[1].positions - ends[0].positions, axis=1)
print(f"atoms go {far.mean():.1f} Å on average\n         {far.max():.1f} Å at most")
print("shift in voxels:", *np.round(SHIFT / VOXEL, 2))

# %% [markdown]
# ## A frame as a function of five numbers
#
# The frame at time t is the barycenter of the two maps with the weights 1 - t and t. Its blur is sigma: where
# nothing moves, a barycenter is the map itself, blurred by a Gaussian of that standard deviation. So the true
# sigma follows from the two resolutions. A shift of the frame is a phase of its Fourier transform, which moves
# it by any part of a voxel.
#
# A sigmoid keeps t between 0 and 1, and an exponential keeps sigma above 0. All five numbers are then free, and
# of similar size.

# %%
WIDTH = 1 / (np.pi * np.sqrt(2))  # standard deviation of an atom over the resolution
SIGMA = WIDTH * np.sqrt(14.0**2 - 10.0**2)  # the truth, Å
FREQUENCIES = jnp.meshgrid(jnp.fft.fftfreq(GRID), jnp.fft.fftfreq(GRID), jnp.fft.rfftfreq(GRID), indexing="ij")
GUESS = {
    "logit": jnp.full((), 1.0, float),  # t = 0.73
    "shift": jnp.zeros(3, float),  # voxels along x, y, z
    "log_sigma": jnp.zeros((), float),  # sigma of one voxel
}


def shifted(density, shift):
    z, y, x = FREQUENCIES
    phase = z * shift[2] + y * shift[1] + x * shift[0]
    return jnp.fft.irfftn(jnp.fft.rfftn(density) * jnp.exp(-2j * jnp.pi * phase), density.shape)


def frame(params, start, tolerance):
    """The shifted frame, and the potentials that the next solve starts from."""
    t, sigma = jax.nn.sigmoid(params["logit"]), jnp.exp(params["log_sigma"])
    weights = jnp.stack([1.0 - t, t])[None]
    kernel = kernels.dense(maps.shape[1:], sigma)
    found = solve_barycenter(maps, weights, kernel, tolerance=tolerance, start=start)
    return shifted(found.value[0], params["shift"]), jax.lax.stop_gradient(found.potentials[1])


# %% [markdown]
# ## The loss
#
# The loss is the squared difference of frame and map, as a share of the map's square. The frame has unit mass
# and the map is in a scale of its own, so the frame is multiplied by the factor that fits best. That factor
# needs no descent: it is a quotient of two sums.


# %%
def difference(params, observed, start, tolerance):
    density, potentials = frame(params, start, tolerance)
    factor = jnp.vdot(density, observed) / jnp.vdot(density, density)
    return factor * density - observed, potentials


def loss(params, observed, start, tolerance):
    off, potentials = difference(params, observed, start, tolerance)
    return jnp.sum(off**2) / jnp.sum(observed**2), potentials


value_and_gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))

# %% [markdown]
# t and sigma act through the solve: t in its weights, sigma in its kernel. Their gradients come from one linear
# system at the solution, not from the iterations. A difference of two solves says whether they are right:

# %%
observed, cold = noisy(0.3), jnp.zeros((1, *maps.shape))


def exact(step=0.0, name="logit"):
    return value_and_gradient(GUESS | {name: GUESS[name] + step}, observed, cold, 1e-10)


for name in ("logit", "log_sigma"):
    slope = (exact(1e-3, name)[0][0] - exact(-1e-3, name)[0][0]) / 2e-3
    print(f"{name}\n  gradient   {exact()[1][name]:11.8f}\n  difference {slope:11.8f}")

# %% [markdown]
# ## Descend
#
# Adam takes 50 steps, which shrink towards the end. Its memory is short (`b1`, `b2`), since five numbers that
# all change need no long averages. Every solve starts from the potentials of the last one, which are nearly
# right. A step takes a fraction of a second, after the function has been compiled once.

# %%
STEPS = 50
optimiser = optax.adam(optax.cosine_decay_schedule(0.2, STEPS), b1=0.7, b2=0.9)


@jax.jit
def descend(params, state, gradient):
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(params, updates), state


def fit(observed):
    """The parameters before every step and after the last, and the loss before every step."""
    params, potentials, path, losses = GUESS, cold, [GUESS], []
    state = optimiser.init(params)
    for _ in range(STEPS):
        (value, potentials), gradient = value_and_gradient(params, observed, potentials, 1e-5)
        params, state = descend(params, state, gradient)
        path.append(params)
        losses.append(float(value))
    return path, losses


def readable(params):
    """t, the shift in Å and sigma in Å."""
    shift = VOXEL * np.asarray(params["shift"])
    return float(jax.nn.sigmoid(params["logit"])), shift, VOXEL * float(jnp.exp(params["log_sigma"]))


path, losses = fit(observed)
t, shift, sigma = readable(path[-1])
rows = [("t", t, TIME), *zip(("x (Å)", "y (Å)", "z (Å)"), shift, SHIFT, strict=True), ("sigma (Å)", sigma, SIGMA)]
for name, found, true in rows:
    print(f"{name:9} {found:6.3f}  true {true:6.3f}")
print("shift in voxels:", *np.round(shift / VOXEL, 2))

# %% [markdown]
# The loss falls little, because most of it is noise, which no frame has. The dashes in its picture are
# the share of the noise in the square of the map.

# %%
times, shifts, _ = (np.array(values) for values in zip(*map(readable, path), strict=True))
figure, panels = plt.subplots(3, 1, figsize=(4.5, 6.5), sharex=True, layout="constrained")
panels[0].plot(losses, color="black")
panels[0].axhline(float(jnp.sum((observed - clean) ** 2) / jnp.sum(observed**2)), color="grey", linestyle="--")
panels[0].set(ylabel="loss", title="dashes: the share of noise")
panels[1].plot(times, color="#0072B2")
panels[1].axhline(TIME, color="#0072B2", linestyle="--", linewidth=0.8)
panels[1].set(ylabel="t", ylim=(0, 1), title="dashes: the truth")
for axis, colour in enumerate(("#D55E00", "#009E73", "#CC79A7")):
    panels[2].plot(shifts[:, axis], color=colour, label="xyz"[axis])
    panels[2].axhline(SHIFT[axis], color=colour, linestyle="--", linewidth=0.8)
panels[2].set(ylabel="shift (Å)", xlabel="step")
panels[2].legend(frameon=False, ncols=3)
plt.show()

# %% [markdown]
# ## Look
#
# One slice, before and after. The orange line is the same in all panels: the contour of the map without its
# noise, at half its maximum. The fit has never seen that map.


# %%
def slice_of(density):
    return np.asarray(density)[:, GRID // 2]


frame_of = jax.jit(lambda params: frame(params, cold, 1e-5)[0])
before, after = frame_of(path[0]), frame_of(path[-1])
shown = {
    "the noisy map": observed,
    "without its noise": clean,
    "frame at the start": before,
    "fitted frame": after,
}
figure, panels = plt.subplots(2, 2, figsize=(4.5, 4.9), layout="constrained")
for panel, (title, density) in zip(panels.flat, shown.items(), strict=True):
    own = clean.max() if density is observed or density is clean else density.max()
    panel.imshow(slice_of(density), cmap="Greys", vmin=0, vmax=own, origin="lower")
    panel.contour(slice_of(clean), [clean.max() / 2], colors="#E69F00", linewidths=1.5)
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=11)
plt.show()

# %% [markdown]
# ## More noise, and none
#
# A fit has two errors. Noise scatters the answer, and a frame of the trajectory is not the map that the atoms
# make, even at the true t. To see each alone, the fit is repeated with 10 % and 100 % of noise, without noise,
# and with a frame of the trajectory itself in place of the map.
#
# Noise alone can be foretold. To first order, white noise of standard deviation d scatters the five numbers by
# the covariance d^2 (J^T J)^-1, where J is the Jacobian of the difference. J goes through the solve too, in
# forward mode.


# %%
@jax.jit
def jacobian(params, observed):
    """The derivatives of the difference by logit, log sigma and shift: five columns."""
    columns = jax.jacfwd(lambda params: difference(params, observed, cold, 1e-5)[0])(params)
    several = columns["logit"][..., None], columns["log_sigma"][..., None], columns["shift"]
    return jnp.concatenate(several, axis=-1).reshape(-1, 5)


def scatter(params, observed, deviation):
    """Standard deviations of t and of the shift (Å, root mean square of x, y, z), for noise of this deviation."""
    by = jacobian(params, observed)
    logit, _, x, y, z = deviation**2 * np.diag(np.linalg.inv(by.T @ by))
    t = readable(params)[0]
    return t * (1 - t) * np.sqrt(logit), VOXEL * np.sqrt((x + y + z) / 3)


def row(name, params, observed=None, deviation=0.0):
    t, shift, sigma = readable(params)
    of_t, of_shift = (f" ± {d:.1g}" for d in scatter(params, observed, deviation)) if deviation else ("", "")
    return f"| {name} | {t:.3f}{of_t} | {', '.join(f'{s:.2f}' for s in shift)}{of_shift} | {sigma:.2f} |"


truth = {
    "logit": jnp.log(TIME / (1 - TIME)),
    "shift": jnp.asarray(SHIFT / VOXEL),
    "log_sigma": jnp.log(SIGMA / VOXEL),
}
of_frame, _ = fit(frame_of(truth))
of_clean, left = fit(noisy(0.0))
others = {share: (fit(noisy(share))[0][-1], noisy(share), share * clean.max()) for share in (0.1, 1.0)}
print(f"0 %: the fitted frame is off by {100 * np.sqrt(left[-1]):.0f} %")
lines = [
    "| noise | t | x, y, z (Å) | sigma (Å) |",
    "|---|---|---|---|",
    row("*the truth*", truth),
    row("a frame, 0 %", of_frame[-1]),
    row("0 %", of_clean[-1]),
    row("10 %", *others[0.1]),
    row("30 %", path[-1], observed, 0.3 * clean.max()),
    row("100 %", *others[1.0]),
]
Markdown("\n".join(lines))

# %% [markdown]
# Read the table from the top.
#
# - **A frame of the trajectory** gives back its own t, shift and sigma. So the descent arrives.
# - **0 %: the bias.** The map is made of atoms. Without any noise t is still 0.02 too late and z is 0.2 Å too far,
#   a twelfth of a voxel. The barycenter moves mass the cheapest way, while every atom went to its own place. So no
#   frame is this map: the best one is off by 13 % (root mean square, over that of the map), with t, shift and
#   sigma slightly wrong. No better optimiser would remove this.
# - **10 %: the bias still leads.** The ± of t is a sixth of its bias. Do not read ± as the error of t.
# - **30 %: both count.** The ± of t is half its bias.
# - **100 %: noise leads.** It is as strong as the highest density. It scatters t by 0.04, and each part of the
#   shift by 0.3 Å, still a fraction of a voxel.
#
# Each row is one draw of noise. Real maps are harder: their noise is not white, and their blur is not one
# Gaussian. Divide map and frame by the spectrum of the noise first, and test the fit on maps of known t, as here.
#
# With sigma and both maps fixed, t alone needs no gradient: compute a trajectory of many frames and compare each.
# `morphot order` does that. Derivatives pay where what is sought also changes the solve, as sigma does here.
