// Where the picture lies on the screen, and what lies under a point.
let fit = { scale: 1, left: 0, top: 0 };

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
