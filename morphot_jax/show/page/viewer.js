// The page around the K3D scene: what is shown, what the controls do. Runs once K3D has loaded the first frame.
const byId = (id) => document.getElementById(id);
const world = K3DInstance.getWorld();
const surface = Object.values(world.ObjectsListJson).find((item) => item.type === "MarchingCubes");
const arrows = Object.values(world.ObjectsListJson).find((item) => item.type === "Vectors");
const told = surface.custom_data;
const shape = surface.scalar_field.shape;
const voxels = shape[0] * shape[1] * shape[2];
const count = told.times.length;
const ROUND = [1, 2, 5];

// Half-precision numbers, by their bits.
const halves = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const value = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  halves[bits] = bits & 0x8000 ? -value : value;
}
const densities = told.densities.data;
const lengths = told.lengths ? told.lengths.data : null;
const fields = new Map();

// Negative, so that the surfaces face outwards.
function fieldOf(index) {
  if (!fields.has(index)) {
    const bits = densities.subarray(index * voxels, (index + 1) * voxels);
    fields.set(index, Float32Array.from(bits, (value) => -halves[value]));
  }
  return fields.get(index);
}

// The density, in units of the frame's level, at which the surface at so many times the level lies.
function contour(index, factor) {
  const place = told.factors.findIndex((value) => value >= factor);
  if (place <= 0) return told.contours[index][place < 0 ? told.factors.length - 1 : 0];
  const [below, above] = [told.factors[place - 1], told.factors[place]];
  const share = Math.log(factor / below) / Math.log(above / below);
  const [low, high] = [told.contours[index][place - 1], told.contours[index][place]];
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
      const coloured = lengths !== null && state.colour === "displacement";
      surface.attribute = coloured
        ? { data: Float32Array.from(lengths.subarray(index * voxels, (index + 1) * voxels)), shape }
        : { data: new Float32Array(0), shape: [0] };
      surface.color_range = coloured ? [0, 255] : [];
      await K3DInstance.reload(surface, null, true);
      await K3DInstance.refreshAfterObjectsChange(true);
      tell(index);
    } while (state.again);
  })();
  await state.drawing;
  state.drawing = null;
  return undefined;
}

function tell(index) {
  byId("time").value = index;
  byId("now").textContent = `t = ${told.times[index].toFixed(3)} (${index + 1}/${count})`;
  const level = told.levels[index] * contour(index, state.factor);
  byId("level-now").textContent = `${level.toPrecision(3)} (${state.factor.toFixed(2)} ×)`;
  document.querySelectorAll("#frames tr").forEach((row, place) => row.classList.toggle("now", place === index));
  byId("legend").hidden = lengths === null || state.colour !== "displacement";
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
    const begun = performance.now();
    if (state.frame === count - 1) state.forward = false;
    if (state.frame === 0) state.forward = true;
    await go(state.frame + (state.forward ? 1 : -1));
    const left = 1000 / Number(byId("speed").value) - (performance.now() - begun);
    await new Promise((resolve) => { setTimeout(resolve, Math.max(0, left)); });
  }
}

function relevel(position) {
  const slider = byId("level");
  slider.value = position;
  state.factor = 4 ** Number(slider.value);
  return draw();
}

// Where the camera is, where it looks, and what is up for it, for a look along an axis.
const VIEWS = { z: [[0, 0, 1], [0, 1, 0]], y: [[0, -1, 0], [0, 0, 1]], x: [[1, 0, 0], [0, 0, 1]] };

function look(along) {
  const [side, up] = VIEWS[along];
  const target = byId("canvasTarget");
  const narrow = Math.min(1, target.clientWidth / target.clientHeight);
  const half = (K3DInstance.parameters.cameraFov * Math.PI) / 360;
  const distance = told.radius / Math.sin(half) / narrow;
  K3DInstance.setCamera([...told.centre.map((c, axis) => c + distance * side[axis]), ...told.centre, ...up]);
  K3DInstance.render();
  measure();
}

// A bar of a round length about a sixth of the picture wide, right at the depth of the middle.
function measure() {
  const target = byId("canvasTarget");
  const distance = world.camera.position.distanceTo(world.controls.target);
  const high = 2 * distance * Math.tan((K3DInstance.parameters.cameraFov * Math.PI) / 360);
  const perAngstrom = target.clientHeight / high;
  const wish = target.clientWidth / 6 / perAngstrom;
  const power = 10 ** Math.floor(Math.log10(wish));
  const length = power * ROUND.filter((step) => step * power <= wish).pop();
  const bar = byId("scale");
  bar.hidden = !(length > 0);
  bar.style.width = `${length * perAngstrom}px`;
  bar.textContent = `${Number(length.toPrecision(3))} Å`;
}

function cell(row, text, kind) {
  const found = document.createElement(kind);
  found.textContent = text;
  row.append(found);
  return found;
}

function furnish() {
  document.title = told.title;
  byId("title").textContent = told.title;
  for (const [name, value] of told.facts) {
    cell(byId("facts"), name, "dt");
    cell(byId("facts"), value, "dd");
  }
  told.notes.forEach((note) => cell(byId("notes"), note, "li"));
  told.rows.forEach((values, index) => {
    const row = byId("frames").insertRow();
    [index, ...values].forEach((value) => cell(row, value, "td"));
    if (!told.good.includes(values[values.length - 1])) row.lastChild.className = "bad";
    row.addEventListener("click", () => { play(false); go(index); });
  });
  byId("time").max = count - 1;
  byId("colours").hidden = lengths === null;
  byId("arrows").hidden = arrows === undefined;
  byId("table").hidden = told.rows.length === 0;
  byId("speeds").hidden = count < 2;
  document.body.classList.toggle("still", count < 2);
  if (lengths !== null) {
    byId("legend").querySelector("div").style.background = `linear-gradient(90deg, ${told.palette.join(", ")})`;
    const [least, most] = byId("legend").querySelectorAll("span");
    least.textContent = "0";
    most.textContent = told.longest.toPrecision(3);
    state.colour = "displacement";
    byId("colour").value = "displacement";
  }
}

function listen() {
  byId("play").addEventListener("click", () => play(!state.playing));
  byId("time").addEventListener("input", (event) => { play(false); go(Number(event.target.value)); });
  byId("level").addEventListener("input", (event) => relevel(event.target.value));
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
  return relevel(0);
}

const KEYS = {
  " ": () => play(!state.playing),
  ArrowLeft: () => { play(false); go(state.frame - 1); },
  ArrowRight: () => { play(false); go(state.frame + 1); },
  ArrowUp: () => relevel(Number(byId("level").value) + 0.1),
  ArrowDown: () => relevel(Number(byId("level").value) - 0.1),
  1: () => look("z"),
  2: () => look("y"),
  3: () => look("x"),
  r: reset,
};

window.morphot = { scene: K3DInstance, state }; // for a console
furnish();
listen();
K3DInstance.resizeHelper();
look("z");
draw().then(() => {
  byId("wait").hidden = true;
  document.body.dataset.ready = "yes";
});
