// Where the picture lies on the screen, and what lies under a point. People zoom and move it: `zoom` is what they chose,
// `fit` what came of it.
const MOST = 32; // screen pixels for a pixel of the picture
const STEP = 1.25; // of a button or a key
let fit = { scale: 1, left: 0, top: 0 };
let zoom = wholePicture();

const zoomBar = root.querySelector(".ad-zoom");
const zoomLevel = zoomBar.querySelector("output");

// As large as the view shows it whole; x and y are the point of the picture in the middle of the view, as shares.
function wholePicture() {
  return { factor: 1, x: 0.5, y: 0.5 };
}

function layout() {
  if (!state) return;
  view.style.setProperty("--ratio", state.height / state.width);
  const width = view.clientWidth;
  const height = view.clientHeight;
  if (!width || !height) return;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const whole = wholeScale(width, height);
  zoom.factor = Math.min(Math.max(zoom.factor, 1), Math.max(1, MOST / whole));
  const scale = whole * zoom.factor;
  fit = { scale, left: edge(width, scale * state.width, zoom.x), top: edge(height, scale * state.height, zoom.y) };
  zoom.x = (width / 2 - fit.left) / (scale * state.width);
  zoom.y = (height / 2 - fit.top) / (scale * state.height);
  root.dataset.scale = fit.scale;
  root.dataset.left = fit.left;
  root.dataset.top = fit.top;
  showLevel();
  showBrush();
  draw();
}

function wholeScale(width, height) {
  const margin = width < 600 ? 4 : state.mode === "look" ? 8 : 22;
  return Math.min((width - 2 * margin) / state.width, (height - 2 * margin) / state.height, 3);
}

// The left or upper edge of the picture: in the middle where all of it is seen, otherwise never far from the view.
function edge(room, size, share) {
  if (zoom.factor <= 1) return (room - size) / 2;
  const beyond = room / 4; // so that handles outside of the picture can be reached
  const [least, most] = [Math.min(0, room - size) - beyond, Math.max(0, room - size) + beyond];
  return Math.min(most, Math.max(least, room / 2 - share * size));
}

function showLevel() {
  zoomLevel.textContent = `${Math.round(100 * fit.scale)}%`;
  zoomBar.querySelector(".ad-dims").textContent = state.dims || "";
  root.dataset.zoom = zoom.factor;
  zoomBar.querySelector("[data-zoom=out]").disabled = zoom.factor <= 1;
  zoomBar.querySelector("[data-zoom=fit]").disabled = zoom.factor <= 1;
}

// Change the size and keep what is at the point (x, y) of the view there, or bring it there from (x - dx, y - dy).
function zoomBy(change, x = view.clientWidth / 2, y = view.clientHeight / 2, dx = 0, dy = 0) {
  if (!state) return;
  const whole = fit.scale / zoom.factor;
  const factor = Math.min(Math.max(zoom.factor * change, 1), Math.max(1, MOST / whole));
  const grown = factor / zoom.factor;
  const left = x - (x - dx - fit.left) * grown;
  const top = y - (y - dy - fit.top) * grown;
  zoom = {
    factor,
    x: (view.clientWidth / 2 - left) / (whole * factor * state.width),
    y: (view.clientHeight / 2 - top) / (whole * factor * state.height),
  };
  layout();
}

function panBy(dx, dy) {
  zoom.x -= dx / (fit.scale * state.width);
  zoom.y -= dy / (fit.scale * state.height);
  layout();
}

function zoomToFit() {
  zoom = wholePicture();
  layout();
}

const ZOOMS = { in: () => zoomBy(STEP), out: () => zoomBy(1 / STEP), fit: zoomToFit };
for (const button of zoomBar.querySelectorAll("button")) {
  button.addEventListener("click", () => ZOOMS[button.dataset.zoom]());
}

let lastWheel = 0;
view.addEventListener("wheel", (event) => {
  if (!state || event.target.closest(".ad-zoom")) return;
  const pixels = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1;
  const [dx, dy] = [event.deltaX * pixels, event.deltaY * pixels];
  // All of the picture is seen already: the wheel is the page's, unless it has just brought us here.
  if (!event.ctrlKey && dy > 0 && zoom.factor <= 1 && event.timeStamp - lastWheel > 500) return;
  event.preventDefault();
  lastWheel = event.timeStamp;
  if (!event.ctrlKey && Math.abs(dx) > Math.abs(dy)) return panBy(-dx, 0);
  const box = view.getBoundingClientRect();
  zoomBy(Math.exp(-dy * (event.ctrlKey ? 0.01 : 0.002)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

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
