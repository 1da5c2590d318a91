// Drawing the picture with what the pointer does to it.
function draw() {
  if (!state || !state.image) return;
  const ratio = window.devicePixelRatio || 1;
  ctx.setTransform(1, 0, 0, 1, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.setTransform(ratio * fit.scale, 0, 0, ratio * fit.scale, ratio * fit.left, ratio * fit.top);
  ctx.imageSmoothingQuality = "high";
  ctx.imageSmoothingEnabled = fit.scale < 6; // beyond that people look at pixels
  if (comparing && state.beforeImage) {
    ctx.drawImage(state.beforeImage, 0, 0, state.width, state.height);
    return;
  }
  const item = chosen();
  const dragged = state.mode === "edit" && item && gesture && gesture.id === item.id && gesture.moved;
  ctx.drawImage(dragged && state.underImage ? state.underImage : state.image, 0, 0, state.width, state.height);
  if (dragged && state.tileImage) drawDragged(ctx, taken(item), 0.94);
  if (state.tints) ctx.drawImage(state.tints, 0, 0);
  if (hovered && !gesture && !shaping && ["edit", "mark"].includes(state.mode) && (state.mode === "edit" || tool === "select")) {
    const shape = shapeOf(hovered);
    if (shape) ctx.drawImage(shape, 0, 0);
  }
  if (state.mode === "edit" && item && !item.locked && !shaping) drawFrame(item);
  if (state.mode === "mark" || shaping) drawMarking();
  if (cross && (state.mode === "mark" || shaping)) drawCross();
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
