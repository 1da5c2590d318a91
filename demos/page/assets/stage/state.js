// What the picture shows. All files of this folder run as one `js_on_load` of a gr.HTML, in the order that
// assets/__init__.py says, with `element`, `trigger`, `props` and `watch` of Gradio. `props.value` is what view/stage.py returns.
const root = element.querySelector(".ad-stage");
const view = root.querySelector(".ad-view");
const canvas = root.querySelector("canvas");
const tools = root.querySelector(".ad-tools");
const hint = root.querySelector(".ad-hint");
const busy = root.querySelector(".ad-busy");
const ctx = canvas.getContext("2d");

let state = null; // the value on show, with its images decoded
let turn = 0; // of the last value that arrived; older ones that decode later are dropped
let gesture = null; // what the pointer is doing
let hovered = 0;
let pointer = null;
let busyTimer = null;

function send(data, name = "act") {
  if (isWorking()) return;
  clearTimeout(busyTimer);
  if (name === "act") busyTimer = setTimeout(() => busy.classList.add("on"), 200); // long work has a bar of its own
  trigger(name, data);
}

function decode(url) {
  if (!url) return Promise.resolve(null);
  const image = new Image();
  image.src = url;
  return image.decode().then(() => image, () => null);
}

function pixels(image, width, height) {
  if (!image) return null;
  const sheet = new OffscreenCanvas(width, height);
  const pen = sheet.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0, width, height);
  const data = pen.getImageData(0, 0, width, height).data;
  const codes = new Uint8Array(width * height);
  for (let i = 0; i < codes.length; i++) codes[i] = data[4 * i];
  return codes;
}

async function show(value, again = show) {
  value = newest(value, again && ((late) => show(late, null)));
  if (value === undefined) return;
  const mine = ++turn;
  if (!value || !value.mode) {
    state = null;
    finish();
    return;
  }
  const known = state && state.before === value.before ? state.beforeImage : decode(value.before);
  const along = (value.along || []).map(({ tile }) => tile); // of what goes along with the chosen object
  const [picture, under, ids, photo, ...tiles] = await Promise.all(
    [...[value.picture, value.under, value.ids].map(decode), known, ...[value.tile, ...along].map(decode)]);
  if (mine !== turn) return;
  const before = state;
  value = newest(value, null); // the choice may have changed while the pictures were decoded
  state = { ...value, image: picture, underImage: under, tileImage: tiles[0], alongImages: tiles.slice(1), beforeImage: photo, shapes: {} };
  state.codes = pixels(ids, value.width, value.height);
  state.tints = value.mode === "mark" && state.codes ? tinted(state) : null;
  if (state.selected !== null) isNew = false;
  if (!before || before.mode !== state.mode) {
    corners = [];
    shaping = cross = null;
  }
  if (!before || before.title !== state.title || before.width !== state.width || before.height !== state.height) {
    asked = [];
    cross = null;
    zoom = wholePicture();
  }
  takeAnswers();
  finish();
  if (asked.length && !asked[0].seq) sendAsked();
}

function finish() {
  clearTimeout(busyTimer);
  busy.classList.remove("on");
  root.classList.toggle("empty", !state);
  root.dataset.mode = state ? state.mode : "";
  root.dataset.stamp = state ? state.stamp : "";
  root.dataset.waits = Boolean(state && state.seq < desk.seq);
  document.body.classList.toggle("ad-preview", Boolean(state && state.isPreview));
  root.setAttribute("aria-label", described());
  root.dataset.clicks = state && state.clicks ? state.clicks.points.length : 0;
  buildTools();
  layout();
}

// The picture in words, for those who do not see it.
function described() {
  if (!state) return "Picture, none yet";
  if (state.mode === "look") return `Drawing of what was found in ${state.title || "the photo"}`;
  const item = chosen();
  const count = state.objects.length;
  const what = `${state.mode === "edit" ? "Scene" : "Photo"} with ${count} ${count === 1 ? "object" : "objects"}`;
  return item ? `${what}; ${item.name} is chosen` : what;
}

function chosen() {
  return state && state.objects ? state.objects.find((item) => item.id === state.selected) : null;
}

// Something was done, here or in the list; maybe something was chosen.
desk.listeners.add(() => {
  root.dataset.waits = true;
  const { choice } = desk;
  if (!state || !isNewer(choice, state) || choice.id === state.selected) return;
  state.selected = choice.id;
  state.underImage = state.tileImage = null;
  state.along = [];
  draw();
});
