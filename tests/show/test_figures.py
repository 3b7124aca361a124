"""Pictures: what they show, measured on the figure itself and not on its pixels."""

import io
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from morphot_jax.maps.metrics import relative_rms, voxel_difference
from morphot_jax.maps.volume import Volume
from morphot_jax.morphing.progress import Clock
from morphot_jax.morphing.settings import Settings
from morphot_jax.morphing.trajectory import Frame, Trajectory
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.runs import report
from morphot_jax.show import figures
from morphot_jax.show.scene import scene_of
from morphot_jax.transport.status import Status

pytestmark = pytest.mark.figures

NAMES = "frames", "slices", "surfaces", "along", "convergence"
PNG_START = b"\x89PNG\r\n\x1a\n"


def blob(shape, centre, width=1.5):
    distance2 = sum((axis - c) ** 2 for axis, c in zip(np.indices(shape), centre, strict=True))
    density = np.exp(-distance2 / (2 * width**2))
    return np.where(density > 1e-3, density, 0).astype(np.float32)


def made(*densities, voxel_size=(2.0, 2.0, 2.0), histories=None, **values):
    """A trajectory of given densities, evenly spaced in time; ``histories``: marginal errors of each frame."""
    times = np.linspace(0, 1, len(densities)) if len(densities) > 1 else [0.5]
    frames = []
    for index, time in enumerate(times):
        errors = np.array(histories[index] if histories else [], float)
        history = np.stack([errors] * 3, axis=1)
        frames.append(Frame(index, float(time), 1.0, Status.CONVERGED, len(errors), history=history))
    data = np.stack(densities)
    template = Volume(data[0], voxel_size)
    return Trajectory(data, tuple(frames), template, Settings(**values), None, (), (), Clock())


def moving(frames, shape=(16, 16, 16), **options):
    centres = np.linspace(5, 10, frames)
    return made(*(blob(shape, (c, 7, 8)) for c in centres), **options)


def scene(trajectory):
    levels = np.array([level_of_mass(density) for density in trajectory.densities])
    times = np.array([frame.time for frame in trajectory.frames])
    return scene_of(trajectory.densities, times, levels, trajectory.template)


def rows_of(trajectory):
    levels = np.array([level_of_mass(density) for density in trajectory.densities])
    return report.frame_rows(trajectory, (trajectory.volume(0), trajectory.volume(-1)), levels)


def drawn(trajectory):
    """Every picture of a run, as files."""
    figures_of_run = figures.all_figures(trajectory, scene(trajectory), rows_of(trajectory), (), {})
    made = {name: draw() for name, draw in figures_of_run.items()}
    return {
        file: data for name, figure in made.items() if figure for file, data in figures.both(name, figure).items()
    }


def test_doubts_are_drawn_on_both_maps_of_every_pair():
    shapes = [blob((16, 16, 16), (c, 7, 8)) for c in (5, 8, 11)]
    maps = [Volume(data.astype(np.float32), (2.0, 2.0, 2.0)) for data in shapes]
    assert figures.doubt_figure(maps, {}) is None
    pairs = {
        k: (maps[k].with_data(4.0 * (maps[k].data > 0)), maps[k + 1].with_data(0.0 * maps[k].data)) for k in (0, 1)
    }
    figure = figures.doubt_figure(maps, pairs)
    titles = [panel.get_title(loc="left") for panel in figure.axes if panel.get_title(loc="left")]
    assert titles == [f"map {a}, on its way to map {b}" for a, b in ((1, 2), (2, 1), (2, 3), (3, 2))]
    colours = [panel.images[0].get_array() for panel in figure.axes[:12:3]]
    red, grey = (picture[..., :3][picture[..., 3] > 0.9] for picture in colours[:2])
    assert (red[:, 0] > red[:, 2] + 0.3).all()
    assert (grey[:, 0] < grey[:, 2]).all()
    assert figures.most_doubt(maps, pairs) == 4.0


def panels(trajectory):
    """The axes of the frames figure as rows (along z, y, x) and columns (frames)."""
    figure = figures.frames_figure(trajectory)
    return np.array(figure.axes).reshape(3, -1)


@pytest.mark.parametrize(("count", "most"), [(1, 7), (2, 7), (7, 7), (8, 7), (25, 7), (1000, 7), (5, 1)])
def test_spread_takes_distinct_indices_with_both_ends(count, most):
    chosen = figures.spread(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] == count - 1 or most == 1
    steps = np.diff(chosen)
    assert not steps.size or steps.max() - steps.min() <= 1


def test_frames_are_spread_over_the_columns_and_named_by_their_time():
    grid = panels(moving(25))
    assert grid.shape == (3, figures.COLUMNS)
    titles = [panel.get_title() for panel in grid[0]]
    assert titles == ["t = 0", "t = 0.167", "t = 0.333", "t = 0.5", "t = 0.667", "t = 0.833", "t = 1"]


def test_rows_are_the_projections_along_z_y_and_x():
    shape = (15, 17, 19)
    trajectory = made(blob(shape, (4, 8, 12)), blob(shape, (9, 8, 6)))
    window = figures._window(trajectory.densities)
    for axis, row in enumerate(panels(trajectory)):
        for panel, density in zip(row, trajectory.densities, strict=True):
            (image,) = panel.get_images()
            expected = density[window].sum(axis=axis, dtype=np.float64)
            shown = np.asarray(image.get_array()) ** (1 / figures.GAMMA)
            np.testing.assert_allclose(shown / shown.max(), expected / expected.max(), atol=1e-6)
            assert image.origin == "lower"
    assert [row[0].get_ylabel()[:7] for row in panels(trajectory)] == ["along z", "along y", "along x"]


def test_frames_share_one_grey_scale():
    trajectory = made(blob((12, 12, 12), (6, 6, 6)), 0.5 * blob((12, 12, 12), (6, 6, 6)))
    for row in panels(trajectory):
        tops = [float(panel.get_images()[0].get_array().max()) for panel in row]
        assert tops == pytest.approx([1.0, 0.5**figures.GAMMA])
        assert all(panel.get_images()[0].get_clim() == (0, 1) for panel in row)


def test_panels_measure_angstrom_along_their_own_axes():
    trajectory = moving(2, shape=(14, 18, 22), voxel_size=(1.0, 2.0, 4.0))
    z, y, x = (part.stop - part.start for part in figures._window(trajectory.densities))
    for row, extent in zip(
        panels(trajectory), [(x * 1.0, y * 2.0), (x * 1.0, z * 4.0), (y * 2.0, z * 4.0)], strict=True
    ):
        for panel in row:
            left, right, bottom, top = panel.get_images()[0].get_extent()
            assert (right - left, top - bottom) == pytest.approx(extent)
            assert panel.get_aspect() in ("equal", 1.0)


def test_window_holds_all_that_can_be_seen_and_little_more():
    shape = (40, 40, 40)
    first, last = blob(shape, (10, 20, 20)), blob(shape, (30, 20, 20))
    window = figures._window(np.stack([first, last]))
    outside = np.ones(shape, bool)
    outside[window] = False
    for density in (first, last):
        assert density[outside].sum() < 0.01 * density.sum()
    sizes = [part.stop - part.start for part in window]
    assert 20 < sizes[0] < 34
    assert sizes[1] == sizes[2] < 20


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 40, 7), (40, 3, 3)])
@pytest.mark.parametrize("filled", [0.0, 1.0])
def test_window_stays_in_the_box(shape, filled):
    densities = np.full((2, *shape), filled, np.float32)
    for part, size in zip(figures._window(densities), shape, strict=True):
        assert 0 <= part.start < part.stop <= size


def test_window_around_a_speck_is_not_too_tight():
    density = np.zeros((40, 40, 40), np.float32)
    density[20, 20, 20] = 1
    for part in figures._window(density[None]):
        assert part.stop - part.start >= figures.SMALLEST_BOX
        assert part.start < 20 < part.stop


@pytest.mark.parametrize("voxel", [0.02, 0.5, 1.06, 3.99, 7.0, 200.0, 2000.0])
def test_scale_bar_has_a_round_length_that_it_says(voxel):
    panel = panels(moving(2, voxel_size=(voxel,) * 3))[0, 0]
    (bar,), (label,) = panel.get_lines(), panel.texts
    length = float(np.ptp(bar.get_xdata()))
    width = float(np.ptp(panel.get_xlim()))
    assert label.get_text() == f"{length:g} Å"
    mantissa = length / 10 ** math.floor(math.log10(length) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)
    assert width / 10 <= length <= width / 4 * (1 + 1e-9)
    assert min(panel.get_xlim()) < min(bar.get_xdata()) < max(bar.get_xdata()) < max(panel.get_xlim())


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("shape", [(16, 16, 16), (5, 12, 20)])
def test_pictures_are_png_of_any_trajectory(frames, shape):
    made = moving(frames, shape=shape, histories=[[1.0, 0.1, 0.01]] * frames)
    pictures = drawn(made)
    assert set(pictures) == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    for name, content in pictures.items():
        if name.endswith(".svg"):
            assert content.startswith(b"<?xml")
            continue
        assert content.startswith(PNG_START)
        picture = imread(io.BytesIO(content), format="png")
        assert np.ptp(picture[..., :3]) > 0.5


def test_equal_trajectories_give_equal_bytes():
    first, second = (drawn(moving(3, histories=[[1.0, 0.1]] * 3)) for _ in range(2))
    assert first == second


def test_slices_are_those_through_the_middle():
    density = np.zeros((9, 9, 9), np.float32)
    density[2:7, 2:7, 2:7] = np.arange(125).reshape(5, 5, 5) + 1.0
    figure = figures.slices_figure(made(density, density))
    pictures = [panel.images[0].get_array() for panel in np.array(figure.axes).reshape(3, 2)[:, 0]]
    for picture, axis in zip(pictures, range(3), strict=True):
        middle = density.take(4, axis=axis)
        np.testing.assert_allclose(picture, (middle / middle.max()) ** figures.GAMMA, rtol=1e-6)


def test_courses_along_t_show_mass_volume_power_and_change():
    trajectory = moving(4)
    rows = rows_of(trajectory)
    mass, volume, power, change = figures.along_figure(rows).axes
    quarter, *_ = power.get_lines()
    np.testing.assert_allclose(quarter.get_ydata(), [row["power_kept_quarter"] for row in rows])
    np.testing.assert_allclose(mass.get_lines()[0].get_xydata(), [(f.time, f.mass) for f in trajectory.frames])
    np.testing.assert_allclose(volume.get_lines()[0].get_ydata(), [row["enclosed_volume"] / 1e3 for row in rows])
    rms, voxels = (line.get_ydata() for line in change.get_lines())
    densities = trajectory.densities
    np.testing.assert_allclose(rms, relative_rms(densities[1:], densities[:-1]))
    np.testing.assert_allclose(voxels, voxel_difference(densities[1:], densities[:-1]))


def test_contact_sheet_has_the_surfaces_of_the_frames_from_two_sides():
    trajectory = moving(9)
    figure = figures.surfaces_figure(trajectory, scene(trajectory))
    sheet = np.array(figure.axes).reshape(2, figures.COLUMNS)
    shown = [trajectory.frames[i].time for i in figures.spread(9, figures.COLUMNS)]
    assert [panel.get_title() for panel in sheet[0]] == [f"t = {time:.3g}" for time in shown]
    heights = [np.argwhere(panel.images[0].get_array().min(axis=-1) < 0.9)[:, 0].mean() for panel in sheet[1]]
    assert np.all(np.diff(heights) < 0)  # it rises along z, and rows count from the top


def test_empty_frames_are_drawn():
    nothing = np.zeros((8, 8, 8), np.float32)
    assert figures.png(figures.frames_figure(made(nothing, nothing))).startswith(PNG_START)


def test_convergence_is_drawn_only_where_something_was_solved():
    assert figures.convergence_figure(moving(3)) is None
    assert "convergence.png" not in drawn(moving(3))


def test_convergence_has_a_line_for_each_solved_frame_and_the_tolerance():
    trajectory = moving(3, histories=[[0.5, 1e-3], [], [0.5, 1e-2, 1e-7]], tolerance=1e-5)
    figure = figures.convergence_figure(trajectory)
    assert isinstance(figure, Figure)
    first, last, tolerance = figure.axes[0].get_lines()
    np.testing.assert_array_equal(first.get_xydata(), [[1, 0.5], [2, 1e-3]])
    np.testing.assert_array_equal(last.get_xydata(), [[1, 0.5], [2, 1e-2], [3, 1e-7]])
    assert set(tolerance.get_ydata()) == {1e-5}
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_ylim()[0] <= 1e-5


@pytest.mark.parametrize("values", [{"iterations": 2}, {"criterion": "change_l1"}])
def test_tolerance_is_drawn_only_where_it_is_compared_with_the_error(values):
    figure = figures.convergence_figure(moving(2, histories=[[0.5, 1e-3]] * 2, **values))
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].get_lines()) == 2


def test_errors_of_zero_do_not_break_the_logarithm():
    figure = figures.convergence_figure(moving(2, histories=[[0.0], [0.5, 0.0]]))
    assert isinstance(figure, Figure)
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()[:2]] == [0, 1]
    assert figures.png(figure).startswith(PNG_START)


def test_errors_that_are_not_finite_do_not_break_the_picture():
    figure = figures.convergence_figure(moving(2, histories=[[0.5, np.inf], [0.5, np.nan]]))
    assert isinstance(figure, Figure)
    assert figures.png(figure).startswith(PNG_START)


def test_shares_of_the_mass_are_percent():
    figure = figures.displacement_figure(np.array([1.0, 2.0, 2.0]), np.array([1.0, 1.0, 2.0]))
    labels = [figure.axes[0].yaxis.get_major_formatter()(share) for share in (0.0, 0.025, 0.1)]
    assert labels == ["0.00%", "2.50%", "10.00%"]
