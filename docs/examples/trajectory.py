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
# # A trajectory from Python
#
# This page is a script, `docs/examples/trajectory.py`. It runs when the pages are built. It morphs adenylate
# kinase from open to closed on a small grid, looks at the frames and at their errors, and ends with the solver
# itself under `jit` and `vmap`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from morphot_jax import (
    Preparation,
    Settings,
    displacement_field,
    kernels,
    metrics,
    morph,
    prepare_maps,
    solve_barycenter,
)
from morphot_jax.maps.samples import sample_volume

# %% [markdown]
# ## Maps
#
# A `Volume` is a density (axes z, y, x) with its voxel size and origin (x, y, z in Å).
# `read_volume("map.mrc")` gives one, and so do the samples. `prepare_maps` puts maps onto one grid, here the
# middle of the box on 32^3 voxels. It makes them non-negative and says what it did.

# %%
maps = [sample_volume("adk-open"), sample_volume("adk-closed")]
prepared = prepare_maps(maps, Preparation(box=48, grid=32))
for sentence in prepared.actions:
    print(sentence)
first, last = prepared.volumes
print(f"{first.shape} voxels of {first.voxel_size[0]:g} Å, masses {first.mass:.6g} and {last.mass:.6g}")

# %% [markdown]
# ## Morph
#
# Settings that are not given are chosen from the maps. `trajectory.plan` has the chosen values and the reasons.

# %%
settings = Settings(frames=9, sigma_angstrom=2.4)
trajectory = morph(prepared, settings)
plan = trajectory.plan
print(f"sigma {plan.sigma[0]:.3g} voxels, kernel {plan.kernel}")
for name, reason in plan.reasons.items():
    print(f"{name}: {reason}")

# %% [markdown]
# Every frame has a status. The default method, `rigid`, makes all frames from one pair of motions, of each map to
# the other. So they share the error of its last plan: the part of the mass by which that plan misses the maps.

# %%
for frame in trajectory.frames:
    print(f"t = {frame.time:.3f}  mass {frame.mass:.1f}  {frame.status}, error {frame.marginal_error:.1e}")


# %% [markdown]
# ## Look
#
# These are projections along z. The last row is the linear blend: one conformation fades out and the other in.


# %%
def projections(densities, title, row):
    top = densities.sum(axis=1).max()
    for panel, density in zip(row, densities, strict=True):
        panel.imshow(density.sum(axis=0), cmap="Greys", vmin=0, vmax=top, origin="lower")
        panel.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)


linear = morph(prepared, Settings(frames=9, method="linear"))
shown = [0, 2, 4, 6, 8]
figure, panels = plt.subplots(2, len(shown), figsize=(9, 3.8), layout="constrained")
projections(trajectory.densities[shown], "displacement", panels[0])
projections(linear.densities[shown], "linear", panels[1])
for panel, index in zip(panels[0], shown, strict=True):
    panel.set_title(f"t = {trajectory.frames[index].time:g}")
plt.show()

# %% [markdown]
# ## Errors
#
# The error falls by about a constant factor at each iteration. Methods differ in the cost
# of an iteration and in the number of solves: one for all frames (`displacement`, `bridge`), rounds of them
# (`rigid`), or one a frame (`barycenter`).

# %%
one_plan = morph(prepared, Settings(frames=9, sigma_angstrom=2.4, method="displacement"))
barycenters = morph(prepared, Settings(frames=9, sigma_angstrom=2.4, method="barycenter"))
figure, panel = plt.subplots(figsize=(6, 3.2), layout="constrained")
for frame in barycenters.frames:
    error = frame.history[:, 0]
    panel.semilogy(np.arange(1, len(error) + 1), error, color="#E69F00", linewidth=0.8)
error = one_plan.frames[0].history[:, 0]
panel.semilogy(np.arange(1, len(error) + 1), error, color="#0072B2", linewidth=2)
panel.axhline(settings.tolerance, color="grey", linestyle="--", linewidth=0.8)
panel.set(xlabel="iteration", ylabel="marginal error", ylim=(1e-7, 2.0))
panel.set_title("one plan (blue), nine barycenters (orange)")
plt.show()

# %% [markdown]
# ## How far from both ends
#
# A morph that moves mass leaves the first map and approaches the last evenly. Metrics take a trajectory `t z y x`
# and one reference at once. The voxel difference counts the voxels above 1 % of the maximum in one of two maps
# only, over those of the reference:

# %%
figure, panel = plt.subplots(figsize=(6, 3.2), layout="constrained")
times = [frame.time for frame in trajectory.frames]
for other, colour, name in ((trajectory, "#0072B2", "displacement"), (linear, "black", "linear")):
    for end, style in ((first, "-"), (last, "--")):
        panel.plot(times, metrics.voxel_difference(other.densities, end.data), style, color=colour)
    panel.plot([], [], color=colour, label=name)
panel.set(xlabel="t", ylabel="voxel difference", title="to the first map (lines) and to the last (dashes)")
panel.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Where does mass go?
#
# `displacement_field` gives how far the mass at every voxel of the first map goes: vectors x, y, z in Å. NaN
# stands for no mass.

# %%
field = displacement_field(prepared, Settings(sigma_angstrom=2.4))
length = np.sqrt((field**2).sum(axis=0))
moved = np.isfinite(length)
mean = np.average(length[moved], weights=first.data[moved])
print(f"mass goes {mean:.2f} Å on average, {length[moved].max():.2f} Å at most")

weight = np.where(moved, first.data, 0.0)
average = (weight * np.nan_to_num(length)).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-9)
faint = weight.sum(axis=0) < 0.02 * weight.sum(axis=0).max()
figure, panel = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
picture = panel.imshow(np.where(faint, np.nan, average), cmap="cividis", origin="lower")
panel.set(xticks=[], yticks=[], title="mean along z")
figure.colorbar(picture, ax=panel, label="displacement (Å)")
plt.show()

# %% [markdown]
# ## The solver in your own code
#
# `solve_barycenter` is a pure function of arrays. It solves all weight vectors in one compiled loop and composes
# with `jit` and `vmap`. Another sigma, weight or tolerance compiles nothing anew. It follows the dtype of the
# maps. Real maps at small sigma need double precision, here inside a `with`.

# %%
with jax.enable_x64(True):
    pair = jnp.stack([jnp.asarray(volume.data, float) for volume in prepared.volumes])
    half = jnp.array([[0.5, 0.5]])

    @jax.jit
    def halfway(sigma):
        return solve_barycenter(pair, half, kernels.dense(pair.shape[1:], sigma))

    sigmas = np.array([0.8, 1.2, 2.0])
    found = jax.tree.map(np.asarray, jax.vmap(halfway)(sigmas))
for sigma, error, iterations in zip(sigmas, found.marginal_error[:, 0], found.iterations[:, 0], strict=True):
    print(f"sigma {sigma:.1f} voxels: error {error:.1e} after {iterations} iterations")

figure, panels = plt.subplots(1, 3, figsize=(7, 2.6), layout="constrained")
for panel, sigma, value in zip(panels, sigmas, found.value[:, 0], strict=True):
    panel.imshow(value.sum(axis=0), cmap="Greys", origin="lower")
    panel.set(xticks=[], yticks=[], title=f"sigma {sigma:.1f} voxels")
plt.show()
