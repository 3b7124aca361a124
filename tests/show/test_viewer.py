"""The viewer as people use it: in a real browser, from a file, without a network."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from morphot_jax.maps.volume import Volume
from morphot_jax.prepare.levels import level_of_mass
from morphot_jax.show.scene import scene_of
from morphot_jax.show.viewer import FOV, POLICY, Arrows, Coloured, Details, page, run_details
from shapes import ARMS, AXES, tripod

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"]
PATIENCE = 60_000  # milliseconds: machines are shared
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u202egpj.crm"


@pytest.fixture(scope="module")
def driver():
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(driver):
    opened = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
    yield opened
    opened.close()


def frames_scene(count=4, n=20):
    """A ball that goes along x and shrinks."""
    places = np.indices((n, n, n))
    frames = []
    for share in np.linspace(0.0, 1.0, count):
        centre = np.array([n / 2, n / 2, 6 + 8 * share])[:, None, None, None]
        away = np.linalg.norm(places - centre, axis=0)
        frames.append(np.exp(-(away**2) / (2 * (3.5 - share) ** 2)).astype(np.float32))
    levels = np.array([level_of_mass(frame) for frame in frames])
    return scene_of(np.stack(frames), np.linspace(0.0, 1.0, count), levels, Volume(frames[0], (2.0, 2.0, 2.0)))


def details(count=4, title="a.mrc → b.mrc", **texts):
    rows = [(f"{t:.3g}", "0.1", "4.2", "100 90 80", "1e-07", "converged") for t in np.linspace(0, 1, count)]
    rows[-1] = (*rows[-1][:-1], "max_iterations")
    return Details(title, [("method", "bridge"), ("sigma", "1 voxels")], ["resampled"], rows, **texts)


class Opened:
    """A page in the browser, and all that went on in it."""

    def __init__(self, browser, path, width=900, height=640):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.errors, self.requests, self.dialogs = [], [], []
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.goto(path.as_uri())
        self.wait("data-ready", "yes")

    def wait(self, name, value):
        self.page.wait_for_selector(f'body[{name}="{value}"]', state="attached", timeout=PATIENCE)

    def data(self, name):
        return self.page.evaluate(f"document.body.dataset.{name}")

    def picture(self):
        """What the canvas shows, once it has come to rest; brightness from 0 to 1."""
        before = None
        for _ in range(40):
            now = self.page.locator("#canvasTarget").screenshot()
            if now == before:
                return imread(io.BytesIO(now))[..., :3].mean(axis=-1)
            before = now
            self.page.wait_for_timeout(60)
        raise AssertionError("the picture does not come to rest")

    def set(self, selector, value):
        """Move a slider as a hand would: its value, then the event."""
        script = "(item, value) => { item.value = value; item.dispatchEvent(new Event('input')); }"
        self.page.locator(selector).evaluate(script, str(value))


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page of a scene; it must have gone without an error, a request or a dialog when it is closed."""
    pages = []

    def opening(text, **size):
        path = tmp_path / "viewer.html"
        path.write_text(text, encoding="utf-8")
        pages.append((Opened(browser, path, **size), path.as_uri()))
        return pages[-1][0]

    yield opening
    for viewer, address in pages:
        viewer.page.close()
        assert viewer.errors == []
        assert viewer.dialogs == []
        assert [url for url in viewer.requests if url != address and not url.startswith(("blob:", "data:"))] == []


def differs(first, second):
    """Whether pictures differ by more than the noise of a few pixels."""
    return (np.abs(first - second) > 0.1).mean() > 1e-3


def test_slider_and_keys_show_other_frames(opened):
    viewer = opened(page(frames_scene(), details()))
    first = viewer.picture()
    viewer.set("#time", 3)
    viewer.wait("data-frame", 3)
    last = viewer.picture()
    assert differs(first, last)
    assert "t = 1.000 (4/4)" in viewer.page.locator("#now").inner_text()
    for key, frame in (("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowRight", 2)):
        viewer.page.keyboard.press(key)
        viewer.wait("data-frame", frame)
    viewer.set("#time", 0)
    viewer.wait("data-frame", 0)
    assert not differs(first, viewer.picture())


def test_surface_goes_where_the_mass_goes(opened):
    """The ball moves by 16 Å along x: by as much on the screen, measured with the scale bar."""
    viewer = opened(page(frames_scene(), details()))
    centres = []
    for frame in (0, 3):
        viewer.set("#time", frame)
        viewer.wait("data-frame", frame)
        centres.append(np.argwhere(body_of(viewer.picture())).mean(axis=0))
    (up, right) = (centres[1] - centres[0]) / pixels_per_angstrom(viewer)
    assert right == pytest.approx(16.0, abs=1.6)
    assert up == pytest.approx(0.0, abs=0.5)


def test_play_goes_there_and_back_and_stops(opened):
    viewer = opened(page(frames_scene(3), details(3)))
    viewer.page.select_option("#speed", "16")
    viewer.page.click("#play")
    seen = [0]
    for _ in range(400):
        frame = int(viewer.data("frame"))
        if frame != seen[-1]:
            seen.append(frame)
        if len(seen) > 5:
            break
        viewer.page.wait_for_timeout(20)
    assert set(seen) == {0, 1, 2}
    assert viewer.page.inner_text("#play") != "▶"
    viewer.page.click("#play")
    assert viewer.page.inner_text("#play") == "▶"
    viewer.page.wait_for_timeout(300)
    resting = viewer.data("frame")
    viewer.page.wait_for_timeout(400)
    assert viewer.data("frame") == resting


def test_higher_levels_have_smaller_surfaces(opened):
    viewer = opened(page(frames_scene(), details()))
    areas = []
    for position in (-0.6, 0.0, 0.4):
        viewer.set("#level", position)
        viewer.page.wait_for_function(
            f"document.getElementById('level-now').textContent.includes('{4**position:.2f}')"
        )
        areas.append(body_of(viewer.picture()).sum())
    assert areas[0] > 1.1 * areas[1] > 1.21 * areas[2] > 0
    viewer.page.keyboard.press("r")
    viewer.page.wait_for_function("document.getElementById('level-now').textContent.includes('(1.00')")


@pytest.mark.parametrize("view", ["z", "y", "x"])
def test_object_without_symmetry_has_the_right_hand_and_size(opened, view):
    """Three bars of 26, 18 and 10 Å along x, y and z, seen along each axis."""
    density = tripod()
    scene = scene_of(density[None], np.array([0.0]), np.array([0.5]), Volume(density, (2.0, 2.0, 2.0)))
    viewer = opened(page(scene, details(1)))
    viewer.page.click(f"[data-view={view}]")
    body = body_of(viewer.picture())
    rows, columns = np.nonzero(body)
    right, up, _ = (2.0 * ARMS[axis[1]] for axis in AXES[view])
    scale = pixels_per_angstrom(viewer)
    assert np.ptp(columns) / scale == pytest.approx(right, abs=3.5)  # nearer parts look larger
    assert np.ptp(rows) / scale == pytest.approx(up, abs=3.5)
    inside = int(3.0 * scale)
    assert body[rows.max() - inside, columns.min() + inside]  # the corner of all bars is at the lower left
    assert not body[rows.min() + inside, columns.max() - inside]


def test_camera_starts_upright_and_returns(opened):
    viewer = opened(page(frames_scene(), details()))
    first = viewer.picture()
    box = viewer.page.locator("#canvasTarget").bounding_box()
    viewer.page.mouse.move(box["x"] + 200, box["y"] + 200)
    viewer.page.mouse.down()
    viewer.page.mouse.move(box["x"] + 320, box["y"] + 300, steps=4)
    viewer.page.mouse.up()
    viewer.set("#time", 2)
    viewer.wait("data-frame", 2)
    viewer.page.click("#reset")
    viewer.set("#time", 0)
    viewer.wait("data-frame", 0)
    assert not differs(first, viewer.picture())


def test_panel_tells_of_the_run(opened):
    viewer = opened(page(frames_scene(), details()))
    text = viewer.page.locator("#panel").inner_text()
    for word in ("a.mrc → b.mrc", "method", "bridge", "resampled"):
        assert word in text
    cells = viewer.page.locator("#frames tr").nth(3).locator("td").all_inner_texts()
    assert cells == ["3", "1", "0.1", "4.2", "100 90 80", "1e-07", "max_iterations"]
    assert viewer.page.locator("#frames td.bad").all_inner_texts() == ["max_iterations"]
    viewer.page.locator("#frames tr").nth(2).click()
    viewer.wait("data-frame", 2)


def test_hostile_names_are_shown_as_text(opened):
    rows = [(HOSTILE, "1", "1", "1", "1", HOSTILE)] * 4
    viewer = opened(page(frames_scene(), Details(HOSTILE, [(HOSTILE, HOSTILE)], [HOSTILE], rows)))
    assert viewer.page.locator("#title").text_content() == HOSTILE
    assert viewer.page.title() == HOSTILE.strip()
    assert viewer.page.locator("#facts dd").text_content() == HOSTILE
    assert viewer.page.locator("#notes li").text_content() == HOSTILE
    assert viewer.page.locator("img").count() == 0


def test_page_fits_a_telephone(opened):
    viewer = opened(page(frames_scene(), details()), width=390, height=700)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not viewer.page.locator("#panel").is_visible()
    for selector in ("#play", "#time", "#unfold", "#scale"):
        assert viewer.page.locator(selector).is_visible()
    body = body_of(viewer.picture())
    assert body.any()
    viewer.page.click("#unfold")
    assert viewer.page.locator("#level").is_visible()
    viewer.page.click("[data-view=y]", timeout=5_000)  # the picture does not cover the panel


def test_single_maps_have_no_time(opened):
    scene = frames_scene(1)
    viewer = opened(page(scene, Details("one", [])))
    assert not viewer.page.locator("#bar").is_visible()
    assert body_of(viewer.picture()).any()


def test_surface_is_coloured_by_what_is_given(opened):
    scene = frames_scene()
    values = np.broadcast_to(np.linspace(0.0, 10.0, scene.densities.shape[3]), scene.densities.shape)
    viewer = opened(page(scene, details(), Coloured.by_length(values.astype(np.float32), 10.0)))
    assert viewer.page.locator("#legend").is_visible()
    assert "10.0" in viewer.page.locator("#legend").inner_text()
    coloured = colours_of(viewer)
    assert coloured[0, 2] > coloured[0, 0] + 0.1  # blue at the left, where values are low
    viewer.set("#time", 3)
    viewer.wait("data-frame", 3)
    viewer.page.select_option("#colour", "plain")
    viewer.page.wait_for_function("document.getElementById('legend').hidden")
    plain = colours_of(viewer)
    assert np.ptp(plain[:, 0] - plain[:, 2]) < 0.15
    assert np.ptp(coloured[:, 0] - coloured[:, 2]) > np.ptp(plain[:, 0] - plain[:, 2])


def test_arrows_are_shown_and_hidden(opened):
    scene = frames_scene(1)
    starts = scene.centre + np.array([[-12.0, -12.0, 0.0], [-12.0, -12.0, 8.0]])
    arrows = Arrows(starts, np.array([[0.0, 25.0, 0.0], [25.0, 0.0, 0.0]]))
    viewer = opened(page(scene, Details("arrows", []), None, arrows))
    shown = viewer.picture()
    viewer.page.uncheck("#arrow")
    viewer.page.wait_for_timeout(300)
    assert differs(shown, viewer.picture())


def test_browser_without_webgl_is_told_so(driver, tmp_path):
    path = tmp_path / "viewer.html"
    path.write_text(page(frames_scene(), details()), encoding="utf-8")
    opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-3d-apis"])
    shown = opened.new_page()
    shown.goto(path.as_uri())
    shown.wait_for_selector('body[data-failed="yes"]', state="attached", timeout=PATIENCE)
    assert "WebGL" in shown.locator("#wait").inner_text()
    assert "a.mrc" in shown.title()
    opened.close()


def test_page_is_one_file_that_may_load_nothing():
    text = page(frames_scene(), details())
    assert "default-src 'none'" in POLICY
    assert text.index(POLICY) < text.index("<script")
    assert text == page(frames_scene(), details())  # the same file each time
    assert len(text) < 2_500_000


def test_details_of_a_run_list_warnings_before_actions_and_sharpness_where_it_was_measured():
    content = {
        "settings": {"method": "linear"},
        "inputs": [{"path": "a.mrc", "voxel_size": (2.0, 2.0, 2.0)}, {"path": "b.mrc"}],
        "device": "cpu",
        "version": "1",
        "actions": ["resampled", "cut"],
        "warnings": ["overlaps little"],
        "frames": [{"time": t, "marginal_error": None, "status": "converged"} for t in (0.0, 1.0)],
    }
    scene = replace(frames_scene(2), coarsened=3)
    measured = [
        {"level": "0.25", "resolution": 4.16, "power_kept_quarter": 1.0, "power_kept_half": "0.83"}
        | {"power_kept_three_quarters": 0.5},
        {"level": 0.3},  # of a run that did not measure how sharp its frames are
    ]
    details = run_details(content, measured, scene)
    assert details.rows == [
        ("0", "0.25", "4.16", "100 83 50", "-", "converged"),
        ("1", "0.3", *"---", "converged"),
    ]
    notes = details.notes
    assert notes[:3] == ["overlaps little", "resampled", "cut"]
    assert "3^3" in notes[3]


# Helpers


def body_of(picture):
    """Where the surface is: what is not white in the middle of the canvas, away from bar, axes and legend."""
    seen = picture < 0.93
    seen[int(0.84 * len(seen)) :] = False
    return seen


def colours_of(viewer):
    """Mean colour of the surface in columns from left to right."""
    viewer.picture()
    picture = imread(io.BytesIO(viewer.page.locator("#canvasTarget").screenshot()))[..., :3]
    body = body_of(picture.mean(axis=-1).copy())
    columns = np.nonzero(body.any(axis=0))[0]
    parts = np.array_split(columns, 4)
    return np.array([picture[:, part][body[:, part]].mean(axis=0) for part in parts])


def pixels_per_angstrom(viewer):
    """By the scale bar; and as the camera's geometry has it."""
    bar = viewer.page.locator("#scale")
    length = float(bar.inner_text().split()[0])
    return bar.bounding_box()["width"] / length


def test_scale_bar_agrees_with_the_camera(opened):
    viewer = opened(page(frames_scene(), details()))
    world = "morphot.scene.getWorld()"
    camera, target = (
        viewer.page.evaluate(f"{world}.{place}.toArray()") for place in ("camera.position", "controls.target")
    )
    height = viewer.page.locator("#canvasTarget").bounding_box()["height"]
    distance = np.linalg.norm(np.array(camera) - np.array(target))
    expected = height / (2 * distance * np.tan(np.radians(FOV / 2)))
    assert pixels_per_angstrom(viewer) == pytest.approx(expected, rel=0.01)
