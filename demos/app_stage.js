// The picture: objects are marked on it (outline, brush, eraser, click) and dragged on it. Runs as `js_on_load` of a
// gr.HTML, which gives `element`, `trigger`, `props` and `watch`. `props.value` is what app_view.stage_value returns.
const root = element.querySelector(".ad-stage");
const view = root.querySelector(".ad-view");
const canvas = root.querySelector("canvas");
const tools = root.querySelector(".ad-tools");
const hint = root.querySelector(".ad-hint");
const busy = root.querySelector(".ad-busy");
const ctx = canvas.getContext("2d");

let state = null; // the value on show, with its images decoded
let turn = 0; // of the last value that arrived; older ones that decode later are dropped
let tool = "outline";
let brush = 24;
let gesture = null; // what the pointer is doing
let corners = []; // of an outline that is set point by point
let hovered = 0;
let pointer = null;
let busyTimer = null;
let fit = { scale: 1, left: 0, top: 0 };

const TOOLS = {
  outline: ["Outline", "Draw around an object, or click point by point; the first point, Enter or a double click closes it."],
  brush: ["Brush", "Paint over an object. With an object chosen the brush adds to it, otherwise it starts a new one."],
  erase: ["Eraser", "Take pixels away from the chosen object."],
  select: ["Choose", "Click an object to choose it."],
  pick: ["Click", "Click an object: the segmenter outlines it."],
};

function send(data) {
  clearTimeout(busyTimer);
  busyTimer = setTimeout(() => busy.classList.add("on"), 200);
  trigger("act", data);
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

async function show(value) {
  const mine = ++turn;
  if (!value || !value.mode) {
    state = null;
    finish();
    return;
  }
  const [picture, under, tile, ids] = await Promise.all([value.picture, value.under, value.tile, value.ids].map(decode));
  if (mine !== turn) return;
  const before = state;
  state = { ...value, image: picture, underImage: under, tileImage: tile, shapes: {} };
  state.codes = pixels(ids, value.width, value.height);
  state.tints = value.mode === "mark" && state.codes ? tinted(state) : null;
  if (!before || before.mode !== state.mode) corners = [];
  if (state.mode === "mark" && tool === "pick" && !state.canPick) tool = "outline";
  finish();
}

function finish() {
  clearTimeout(busyTimer);
  busy.classList.remove("on");
  root.classList.toggle("empty", !state);
  root.dataset.mode = state ? state.mode : "";
  root.dataset.stamp = state ? state.stamp : "";
  buildTools();
  layout();
}

function tinted(value) {
  const sheet = new OffscreenCanvas(value.width, value.height);
  const pen = sheet.getContext("2d");
  const data = pen.createImageData(value.width, value.height);
  const { codes } = value;
  const w = value.width;
  const colours = value.objects.map((item) => item.rgb);
  const chosen = value.objects.findIndex((item) => item.id === value.selected) + 1;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (!code) continue;
    const rgb = colours[code - 1];
    const edge = codes[i + 1] !== code || codes[i - 1] !== code || codes[i + w] !== code || codes[i - w] !== code;
    data.data.set([rgb[0], rgb[1], rgb[2], edge ? 255 : code === chosen ? 150 : 95], 4 * i);
  }
  pen.putImageData(data, 0, 0);
  return sheet;
}

// The part of the picture that shows an object, as a glow for the pointer.
function shapeOf(code) {
  if (!state.codes || !code) return null;
  if (!state.shapes[code]) {
    const sheet = new OffscreenCanvas(state.width, state.height);
    const pen = sheet.getContext("2d");
    const data = pen.createImageData(state.width, state.height);
    const w = state.width;
    const { codes } = state;
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] !== code) continue;
      const edge = [1, -1, 2, -2, w, -w, 2 * w, -2 * w].some((step) => codes[i + step] !== code);
      data.data.set([255, 255, 255, edge ? 235 : 14], 4 * i);
    }
    pen.putImageData(data, 0, 0);
    state.shapes[code] = sheet;
  }
  return state.shapes[code];
}

function layout() {
  if (!state) return;
  const width = view.clientWidth;
  const height = view.clientHeight;
  if (!width || !height) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const margin = state.mode === "look" ? 8 : 22;
  const scale = Math.min((width - 2 * margin) / state.width, (height - 2 * margin) / state.height, 3);
  fit = { scale, left: (width - scale * state.width) / 2, top: (height - scale * state.height) / 2 };
  root.dataset.scale = fit.scale;
  root.dataset.left = fit.left;
  root.dataset.top = fit.top;
  draw();
}

function chosen() {
  return state && state.objects ? state.objects.find((item) => item.id === state.selected) : null;
}

// Canvas maps of an object: as it is, and with what the pointer does to it.
function placed(item) {
  let map = new DOMMatrix(item.transform);
  if (!gesture || gesture.id !== item.id) return map;
  const about = (change) => new DOMMatrix().translate(...item.centre).multiply(change).translate(-item.centre[0], -item.centre[1]);
  if (gesture.kind === "move") return new DOMMatrix().translate(gesture.dx, gesture.dy).multiply(map);
  if (gesture.kind === "scale") return about(new DOMMatrix().scale(gesture.factor)).multiply(map);
  if (gesture.kind === "rotate") return about(new DOMMatrix().rotate(-gesture.turned)).multiply(map);
  return map;
}

function frameOf(item) {
  const map = placed(item);
  const [w, h] = item.tile;
  return [[0, 0], [w, 0], [w, h], [0, h]].map(([x, y]) => {
    const point = map.transformPoint(new DOMPoint(x, y));
    return [point.x, point.y];
  });
}

// The four corners, and a knob above the middle of the upper edge.
function handlesOf(item) {
  const frame = frameOf(item);
  const middle = [0, 1].map((k) => frame.reduce((sum, point) => sum + point[k], 0) / 4);
  const edges = frame.map((point, i) => [(point[0] + frame[(i + 1) % 4][0]) / 2, (point[1] + frame[(i + 1) % 4][1]) / 2]);
  const top = edges.reduce((best, edge) => (edge[1] < best[1] ? edge : best));
  const away = Math.hypot(top[0] - middle[0], top[1] - middle[1]) || 1;
  const reach = 26 / fit.scale;
  const knob = [top[0] + ((top[0] - middle[0]) / away) * reach, top[1] + ((top[1] - middle[1]) / away) * reach];
  return { frame, top, knob };
}

function draw() {
  if (!state || !state.image) return;
  const ratio = window.devicePixelRatio || 1;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.setTransform(ratio * fit.scale, 0, 0, ratio * fit.scale, ratio * fit.left, ratio * fit.top);
  ctx.imageSmoothingQuality = "high";
  const item = chosen();
  const dragged = state.mode === "edit" && item && gesture && gesture.id === item.id && gesture.moved;
  ctx.drawImage(dragged && state.underImage ? state.underImage : state.image, 0, 0, state.width, state.height);
  if (dragged && state.tileImage) {
    ctx.save();
    const map = placed(item);
    ctx.transform(map.a, map.b, map.c, map.d, map.e, map.f);
    ctx.globalAlpha = 0.94;
    ctx.drawImage(state.tileImage, 0, 0, item.tile[0], item.tile[1]);
    ctx.restore();
  }
  if (state.tints) ctx.drawImage(state.tints, 0, 0);
  if (hovered && !gesture && ["edit", "mark"].includes(state.mode) && (state.mode === "edit" || tool === "select")) {
    const shape = shapeOf(hovered);
    if (shape) ctx.drawImage(shape, 0, 0);
  }
  if (state.mode === "edit" && item) drawFrame(item);
  if (state.mode === "mark") drawStroke();
}

function path(points, close) {
  ctx.beginPath();
  points.forEach(([x, y], index) => (index ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  if (close) ctx.closePath();
}

function lines(width, colours) {
  for (const [extra, colour, dash] of colours) {
    ctx.setLineDash(dash || []);
    ctx.lineWidth = (width + extra) / fit.scale;
    ctx.strokeStyle = colour;
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

function dot(x, y, radius, fill) {
  ctx.beginPath();
  ctx.arc(x, y, radius / fit.scale, 0, 2 * Math.PI);
  ctx.fillStyle = fill;
  ctx.fill();
  lines(1.5, [[0, "#1d4ed8"]]);
}

function drawFrame(item) {
  const { frame, top, knob } = handlesOf(item);
  path([top, knob], false);
  lines(1.5, [[1.5, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
  path(frame, true);
  lines(1.5, [[1.5, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
  for (const [x, y] of frame) dot(x, y, 5.5, "#fff");
  dot(knob[0], knob[1], 6, "#bfdbfe");
}

function drawStroke() {
  ctx.lineCap = ctx.lineJoin = "round";
  if (gesture && gesture.kind === "line" && gesture.points.length > 1) {
    path(gesture.points, false);
    if (tool === "outline") {
      lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    } else {
      ctx.lineWidth = brush;
      ctx.strokeStyle = tool === "erase" ? "rgba(220,38,38,.55)" : "rgba(29,78,216,.55)";
      ctx.stroke();
    }
  }
  if (corners.length) {
    path(pointer ? [...corners, pointer] : corners, false);
    lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    corners.forEach(([x, y], index) => dot(x, y, index ? 3.5 : 6, "#fff"));
  }
  if ((tool === "brush" || tool === "erase") && pointer) {
    ctx.beginPath();
    ctx.arc(pointer[0], pointer[1], brush / 2, 0, 2 * Math.PI);
    lines(1.2, [[1.4, "rgba(0,0,0,.7)"], [0, "#fff"]]);
  }
}

// Pointer

function at(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left - fit.left) / fit.scale, (event.clientY - box.top - fit.top) / fit.scale];
}

function codeAt([x, y]) {
  if (!state || !state.codes || x < 0 || y < 0 || x >= state.width || y >= state.height) return 0;
  return state.codes[Math.floor(y) * state.width + Math.floor(x)];
}

function near(a, b, reach) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]) * fit.scale < reach;
}

function handleAt(point) {
  const item = chosen();
  if (!item || state.mode !== "edit") return null;
  const { frame, knob } = handlesOf(item);
  if (near(point, knob, 12)) return "rotate";
  return frame.some((corner) => near(point, corner, 11)) ? "scale" : null;
}

function inside(point, item) {
  const local = new DOMMatrix(item.transform).inverse().transformPoint(new DOMPoint(...point));
  return local.x >= 0 && local.y >= 0 && local.x < item.tile[0] && local.y < item.tile[1];
}

canvas.addEventListener("pointerdown", (event) => {
  if (!state || event.button !== 0 || state.mode === "look") return;
  event.preventDefault();
  root.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  const point = at(event);
  if (state.mode === "edit") startEdit(point);
  else if (tool === "select") {
    const item = state.objects[codeAt(point) - 1];
    send({ mode: "mark", op: "select", id: item ? item.id : null });
  } else if (tool === "pick") trigger("pick", { x: point[0], y: point[1] });
  else gesture = { kind: "line", points: [point], start: [event.clientX, event.clientY], moved: false };
  draw();
});

function startEdit(point) {
  let item = chosen();
  const handle = handleAt(point);
  if (handle) {
    const [x, y] = [point[0] - item.centre[0], point[1] - item.centre[1]];
    gesture = { kind: handle, id: item.id, from: point, reach: Math.hypot(x, y) || 1, angle: Math.atan2(y, x), factor: 1, turned: 0 };
    return;
  }
  const found = state.objects[codeAt(point) - 1];
  if (!found && !(item && inside(point, item))) {
    if (item) send({ mode: "edit", op: "select", id: null });
    state.selected = null;
    return;
  }
  if (found && found.id !== state.selected) {
    item = found;
    state.selected = found.id;
    state.underImage = state.tileImage = null;
    send({ mode: "edit", op: "select", id: found.id });
  }
  gesture = { kind: "move", id: item.id, from: point, dx: 0, dy: 0, moved: false };
}

canvas.addEventListener("pointermove", (event) => {
  if (!state) return;
  const point = at(event);
  pointer = point;
  if (!gesture) {
    hovered = codeAt(point);
    canvas.style.cursor = cursorAt(point);
  } else if (gesture.kind === "line") {
    for (const part of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) gesture.points.push(at(part));
    gesture.moved ||= Math.hypot(event.clientX - gesture.start[0], event.clientY - gesture.start[1]) > 5;
  } else {
    followEdit(point, event.shiftKey);
  }
  draw();
});

function followEdit(point, steady) {
  const item = chosen();
  if (!item) return;
  if (gesture.kind === "move") {
    gesture.dx = Math.round(point[0] - gesture.from[0]);
    gesture.dy = Math.round(point[1] - gesture.from[1]);
    if (steady) gesture[Math.abs(gesture.dx) > Math.abs(gesture.dy) ? "dy" : "dx"] = 0;
    gesture.moved ||= Math.hypot(gesture.dx, gesture.dy) * fit.scale > 3;
    return;
  }
  const [x, y] = [point[0] - item.centre[0], point[1] - item.centre[1]];
  gesture.moved = true;
  gesture.factor = Math.min(20, Math.max(0.02, Math.hypot(x, y) / gesture.reach));
  gesture.turned = ((gesture.angle - Math.atan2(y, x)) * 180) / Math.PI;
  if (steady) gesture.turned = Math.round(gesture.turned / 15) * 15;
}

function cursorAt(point) {
  if (state.mode === "look") return "default";
  if (state.mode === "mark") return tool === "select" ? "pointer" : tool === "brush" || tool === "erase" ? "none" : "crosshair";
  const handle = handleAt(point);
  if (handle) return handle === "rotate" ? "grab" : "nwse-resize";
  const item = chosen();
  return codeAt(point) || (item && inside(point, item)) ? "move" : "default";
}

canvas.addEventListener("pointerup", () => {
  const done = gesture;
  gesture = null;
  if (!done || !state) return;
  if (done.kind === "line") endLine(done);
  else if (done.moved) endEdit(done);
  draw();
});
canvas.addEventListener("pointercancel", () => { gesture = null; draw(); });
canvas.addEventListener("pointerleave", () => { pointer = null; hovered = 0; draw(); });
canvas.addEventListener("dblclick", () => closeOutline());

function endEdit(done) {
  const item = chosen();
  if (!item) return;
  if (done.kind === "move" && (done.dx || done.dy)) {
    keep(item, done, { op: "move", dx: done.dx, dy: done.dy });
  } else if (done.kind === "scale") {
    keep(item, done, { op: "scale", percent: Math.min(1000, Math.max(2, item.scale * done.factor)) });
  } else if (done.kind === "rotate") {
    keep(item, done, { op: "rotate", degrees: item.rotation + done.turned });
  }
}

// The object stays where it was dropped until the answer is there.
function keep(item, done, data) {
  gesture = { ...done, moved: true };
  const map = placed(item);
  gesture = null;
  item.transform = [map.a, map.b, map.c, map.d, map.e, map.f];
  const centre = map.transformPoint(new DOMPoint(item.tile[0] / 2, item.tile[1] / 2));
  item.centre = [centre.x, centre.y];
  if (state.underImage && state.tileImage) {
    const sheet = new OffscreenCanvas(state.width, state.height);
    const pen = sheet.getContext("2d");
    pen.drawImage(state.underImage, 0, 0, state.width, state.height);
    pen.setTransform(map);
    pen.drawImage(state.tileImage, 0, 0, item.tile[0], item.tile[1]);
    state.image = sheet;
  }
  send({ mode: "edit", id: item.id, ...data });
}

function endLine(done) {
  if (tool === "outline" && !done.moved) {
    const point = done.points[0];
    if (corners.length > 2 && near(point, corners[0], 12)) closeOutline();
    else if (!corners.length || !near(point, corners[corners.length - 1], 3)) corners.push(point);
    return;
  }
  corners = [];
  const points = done.points.map(([x, y]) => [Math.round(10 * x) / 10, Math.round(10 * y) / 10]);
  send({ mode: "mark", op: "stroke", kind: tool, points, width: brush });
}

function closeOutline() {
  if (!state || state.mode !== "mark" || corners.length < 3) return;
  const points = corners;
  corners = [];
  send({ mode: "mark", op: "stroke", kind: "outline", points });
  draw();
}

// Tools

function buildTools() {
  tools.replaceChildren();
  hint.textContent = "";
  if (!state) return;
  if (state.mode === "mark") {
    for (const [name, [label]] of Object.entries(TOOLS)) {
      if (name === "pick" && !state.canPick) continue;
      tools.append(toolButton(name, label));
    }
    const size = document.createElement("label");
    size.className = "ad-size";
    size.append("Brush size");
    const range = Object.assign(document.createElement("input"), { type: "range", min: 4, max: 120, value: brush });
    range.addEventListener("input", () => { brush = Number(range.value); draw(); });
    size.append(range);
    size.hidden = tool !== "brush" && tool !== "erase";
    tools.append(size);
    hint.textContent = TOOLS[tool][1];
  } else {
    const title = document.createElement("span");
    title.className = "ad-title";
    title.textContent = state.title || "";
    tools.append(title);
    hint.textContent = state.hint || "";
  }
  const size = document.createElement("span");
  size.className = "ad-dims";
  size.textContent = state.dims || "";
  tools.append(size);
}

function toolButton(name, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.setAttribute("aria-pressed", String(tool === name));
  button.addEventListener("click", () => {
    tool = name;
    corners = [];
    buildTools();
    draw();
  });
  return button;
}

// Keyboard

function onKey(event) {
  if (!root.isConnected) {
    document.removeEventListener("keydown", onKey);
    return;
  }
  const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable=true]");
  if (!state || (typing && typing.type !== "range") || !root.offsetParent || state.mode === "look") return;
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    event.preventDefault();
    send({ mode: state.mode, op: key === "y" || event.shiftKey ? "redo" : "undo" });
  } else if (key === "escape") {
    corners = [];
    if (gesture) gesture = null;
    else if (state.selected !== null) send({ mode: state.mode, op: "select", id: null });
    draw();
  } else if (key === "enter") closeOutline();
  else if ((key === "delete" || key === "backspace") && chosen()) {
    event.preventDefault();
    send({ mode: state.mode, op: "remove", id: state.selected });
  } else if (state.mode === "edit" && chosen() && document.activeElement === root) nudge(event);
}

function nudge(event) {
  const step = event.shiftKey ? 10 : 1;
  const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const way = ways[event.key];
  if (!way) return;
  event.preventDefault();
  const item = chosen();
  keep(item, { kind: "move", id: item.id, dx: way[0], dy: way[1] }, { op: "move", dx: way[0], dy: way[1] });
  draw();
}

// A photo that is dropped or pasted goes the way of the upload button, with its checks.
function takeFile(files) {
  const input = document.querySelector("input[type=file]:has(+ #photo-upload)");
  if (!files || !files.length || !input) return false;
  const one = new DataTransfer();
  one.items.add(files[0]);
  input.files = one.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

view.addEventListener("dragover", (event) => {
  event.preventDefault();
  view.classList.add("dropping");
});
view.addEventListener("dragleave", () => view.classList.remove("dropping"));
view.addEventListener("drop", (event) => {
  event.preventDefault();
  view.classList.remove("dropping");
  takeFile(event.dataTransfer.files);
});
root.addEventListener("paste", (event) => takeFile(event.clipboardData && event.clipboardData.files));

document.addEventListener("keydown", onKey);
new ResizeObserver(layout).observe(view);
watch("value", () => show(props.value));
show(props.value);
