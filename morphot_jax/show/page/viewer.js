// The page around the K3D scene: its text and its controls. It runs once K3D has loaded the first frame.
const byId = (id) => document.getElementById(id);
const world = K3DInstance.getWorld();
const surface = Object.values(world.ObjectsListJson).find((item) => item.type === "MarchingCubes");
const arrows = Object.values(world.ObjectsListJson).find((item) => item.type === "Vectors");
const content = surface.custom_data;
const shape = surface.scalar_field.shape;
const voxels = shape[0] * shape[1] * shape[2];
const count = content.labels.length;
const ROUND = [1, 2, 5];

// The value of each half-precision number, by its bits.
const halves = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const value = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  halves[bits] = bits & 0x8000 ? -value : value;
}
const densities = content.densities.data;
const values = content.values ? content.values.data : null;
const fields = new Map();

// K3D's surfaces face high values, so the field is negated to make them face outwards.
function fieldOf(index) {
  if (!fields.has(index)) {
    const bits = densities.subarray(index * voxels, (index + 1) * voxels);
    fields.set(index, Float32Array.from(bits, (value) => -halves[value]));
  }
  return fields.get(index);
}

// The density of the surface at `factor` times the level, in units of the level.
function contour(index, factor) {
  const place = content.factors.findIndex((value) => value >= factor);
  if (place <= 0) return content.contours[index][place < 0 ? content.factors.length - 1 : 0];
  const [below, above] = [content.factors[place - 1], content.factors[place]];
  const share = Math.log(factor / below) / Math.log(above / below);
  const [low, high] = [content.contours[index][place - 1], content.contours[index][place]];
  return low + share * (high - low);
}

const state = { frame: 0, factor: 1, colour: "plain", playing: false, forward: true, drawing: null, again: false };

async function draw() {
  if (state.drawing) {
    state.again = true;
    return state.drawing;
  }
  state.drawing = (async () => {
    do {
      state.again = false;
      const index = state.frame;
      surface.scalar_field = { data: fieldOf(index), shape };
      surface.level = -contour(index, state.factor);
      const coloured = values !== null && state.colour !== "plain";
      surface.attribute = coloured
        ? { data: Float32Array.from(values.subarray(index * voxels, (index + 1) * voxels)), shape }
        : { data: new Float32Array(0), shape: [0] };
      surface.color_range = coloured ? [0, 255] : [];
      await K3DInstance.reload(surface, null, true);
      await K3DInstance.refreshAfterObjectsChange(true);
      describe(index);
    } while (state.again);
  })();
  await state.drawing;
  state.drawing = null;
  return undefined;
}

function describe(index) {
  byId("time").value = index;
  byId("now").textContent = `${content.labels[index]} (${index + 1}/${count})`;
  const level = content.levels[index] * contour(index, state.factor);
  byId("level-now").textContent = `${level.toPrecision(3)} (${state.factor.toFixed(2)} ×)`;
  document.querySelectorAll("#frames tr").forEach((row, place) => row.classList.toggle("now", place === index));
  byId("legend").hidden = values === null || state.colour === "plain";
  document.body.dataset.frame = index;
}

function go(index) {
  state.frame = Math.min(Math.max(index, 0), count - 1);
  return draw();
}

async function play(on) {
  if (on === state.playing) return;
  state.playing = on;
  byId("play").textContent = on ? "❚❚" : "▶";
  while (state.playing) {
    const started = performance.now();
    if (state.frame === count - 1) state.forward = content.cyclic;
    if (state.frame === 0) state.forward = true;
    await go((state.frame + (state.forward ? 1 : -1)) % count);
    const left = 1000 / Number(byId("speed").value) - (performance.now() - started);
    await new Promise((resolve) => { setTimeout(resolve, Math.max(0, left)); });
  }
}

function setLevel(position) {
  const slider = byId("level");
  slider.value = position;
  state.factor = 4 ** Number(slider.value);
  return draw();
}

// For each view along an axis: the direction from the middle to the camera, and the one that is up.
const VIEWS = { z: [[0, 0, 1], [0, 1, 0]], y: [[0, -1, 0], [0, 0, 1]], x: [[1, 0, 0], [0, 0, 1]] };

function look(axis) {
  const [side, up] = VIEWS[axis];
  const target = byId("canvasTarget");
  const narrow = Math.min(1, target.clientWidth / target.clientHeight);
  const half = (K3DInstance.parameters.cameraFov * Math.PI) / 360;
  const distance = content.radius / Math.sin(half) / narrow;
  K3DInstance.setCamera([...content.centre.map((c, index) => c + distance * side[index]), ...content.centre, ...up]);
  K3DInstance.render();
  measure();
}

// Draw a scale bar of a round length, about a sixth of the picture; it is exact at the depth of the middle.
function measure() {
  const target = byId("canvasTarget");
  const distance = world.camera.position.distanceTo(world.controls.target);
  const high = 2 * distance * Math.tan((K3DInstance.parameters.cameraFov * Math.PI) / 360);
  const perAngstrom = target.clientHeight / high;
  const wanted = target.clientWidth / 6 / perAngstrom;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const length = power * ROUND.filter((step) => step * power <= wanted).pop();
  const bar = byId("scale");
  bar.hidden = !(length > 0);
  bar.style.width = `${length * perAngstrom}px`;
  bar.textContent = `${Number(length.toPrecision(3))} Å`;
}

function append(parent, text, kind) {
  const element = document.createElement(kind);
  element.textContent = text;
  parent.append(element);
}

function fillPanel() {
  document.title = content.title;
  byId("title").textContent = content.title;
  for (const [name, value] of content.facts) {
    append(byId("facts"), name, "dt");
    append(byId("facts"), value, "dd");
  }
  content.notes.forEach((note) => append(byId("notes"), note, "li"));
  content.rows.forEach((values, index) => {
    const row = byId("frames").insertRow();
    [index, ...values].forEach((value) => append(row, value, "td"));
    if (!content.good.includes(values[values.length - 1])) row.lastChild.className = "bad";
    row.addEventListener("click", () => { play(false); go(index); });
  });
  byId("naming").textContent = content.naming;
  byId("time").max = count - 1;
  byId("colours").hidden = values === null;
  byId("arrows").hidden = arrows === undefined;
  byId("table").hidden = content.rows.length === 0;
  byId("speeds").hidden = count < 2;
  document.body.classList.toggle("still", count < 2);
  if (values !== null) {
    byId("legend").querySelector("div").style.background = `linear-gradient(90deg, ${content.palette.join(", ")})`;
    byId("legend").querySelectorAll("span").forEach((part, index) => { part.textContent = content.legend[index]; });
    append(byId("colour"), content.colouring, "option");
    state.colour = content.colouring;
    byId("colour").value = content.colouring;
  }
}

function listen() {
  byId("play").addEventListener("click", () => play(!state.playing));
  byId("time").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
  byId("level").addEventListener("input", (event) => setLevel(event.target.value));
  byId("colour").addEventListener("change", (event) => { state.colour = event.target.value; draw(); });
  byId("arrow").addEventListener("change", (event) => {
    arrows.visible = event.target.checked;
    K3DInstance.reload(arrows, { visible: arrows.visible }, true).then(() => K3DInstance.refreshAfterObjectsChange(true));
  });
  document.querySelectorAll("[data-view]").forEach((button) => {
    button.addEventListener("click", () => look(button.dataset.view));
  });
  byId("reset").addEventListener("click", reset);
  byId("unfold").addEventListener("click", () => document.body.classList.toggle("unfolded"));
  K3DInstance.on(K3DInstance.events.CAMERA_CHANGE, measure);
  window.addEventListener("resize", () => { K3DInstance.resizeHelper(); measure(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const action = KEYS[event.key];
    if (!action || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    action();
  });
}

function reset() {
  look("z");
  return setLevel(0);
}

const KEYS = {
  " ": () => play(!state.playing),
  ArrowLeft: () => { play(false); go(state.frame - 1); },
  ArrowRight: () => { play(false); go(state.frame + 1); },
  ArrowUp: () => setLevel(Number(byId("level").value) + 0.1),
  ArrowDown: () => setLevel(Number(byId("level").value) - 0.1),
  1: () => look("z"),
  2: () => look("y"),
  3: () => look("x"),
  r: reset,
};

window.morphot = { scene: K3DInstance, state }; // for the browser's console
fillPanel();
listen();
K3DInstance.resizeHelper();
look("z");
draw().then(() => {
  byId("wait").hidden = true;
  document.body.dataset.ready = "yes";
});
