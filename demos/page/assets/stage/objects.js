// Dragging, resizing and turning objects of a scene.
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

// The object and what goes along with it, back to front: image, item, and the canvas map that the pointer gives it.
function taken(item) {
  const map = placed(item);
  const change = map.multiply(new DOMMatrix(item.transform).inverse());
  const parts = [[state.tileImage, item, map]];
  (state.along || []).forEach(({ id }, number) => {
    const other = state.objects.find((one) => one.id === id);
    if (other && state.alongImages[number]) parts.push([state.alongImages[number], other, change.multiply(new DOMMatrix(other.transform))]);
  });
  return parts;
}

function drawDragged(pen, parts, share) {
  for (const [image, item, map] of parts) {
    pen.save();
    pen.transform(map.a, map.b, map.c, map.d, map.e, map.f);
    pen.globalAlpha = share * item.opacity;
    pen.drawImage(image, 0, 0, item.tile[0], item.tile[1]);
    pen.restore();
  }
}

function frameOf(item) {
  const map = placed(item);
  const [w, h] = item.tile;
  return [[0, 0], [w, 0], [w, h], [0, h]].map(([x, y]) => {
    const point = map.transformPoint(new DOMPoint(x, y));
    return [point.x, point.y];
  });
}

// The upper edge; the lower or another one where there is no room above it, so that its knob can be reached.
function knobEdge(edges) {
  const least = 34 / fit.scale;
  const seen = ([x, y]) => {
    const [left, top] = [fit.left + x * fit.scale, fit.top + y * fit.scale];
    return left > 0 && left < view.clientWidth && top > 0 && top < view.clientHeight;
  };
  const sorted = [...edges].sort((a, b) => a[1] - b[1]);
  const middle = [0, 1].map((k) => edges.reduce((sum, edge) => sum + edge[k], 0) / 4);
  const knob = ([x, y]) => {
    const away = Math.hypot(x - middle[0], y - middle[1]) || 1;
    return [x + ((x - middle[0]) / away) * least, y + ((y - middle[1]) / away) * least];
  };
  return [sorted[0], sorted[3], sorted[1], sorted[2]].find((edge) => seen(knob(edge))) || sorted[0];
}

// The four corners, and a knob beyond the middle of an edge.
function handlesOf(item) {
  const frame = frameOf(item);
  const middle = [0, 1].map((k) => frame.reduce((sum, point) => sum + point[k], 0) / 4);
  const edges = frame.map((point, i) => [(point[0] + frame[(i + 1) % 4][0]) / 2, (point[1] + frame[(i + 1) % 4][1]) / 2]);
  const top = knobEdge(edges);
  const away = Math.hypot(top[0] - middle[0], top[1] - middle[1]) || 1;
  const reach = 26 / fit.scale;
  const knob = [top[0] + ((top[0] - middle[0]) / away) * reach, top[1] + ((top[1] - middle[1]) / away) * reach];
  return { frame, top, knob };
}

function handleAt(point) {
  const item = chosen();
  if (!item || item.locked || state.mode !== "edit") return null;
  const { frame, knob } = handlesOf(item);
  if (near(point, knob, 12)) return "rotate";
  return frame.some((corner) => near(point, corner, 11)) ? "scale" : null;
}

function inside(point, item) {
  const local = new DOMMatrix(item.transform).inverse().transformPoint(new DOMPoint(...point));
  return local.x >= 0 && local.y >= 0 && local.x < item.tile[0] && local.y < item.tile[1];
}

// The object that is seen at a point. One that was moved and has no answer yet is seen where it was dropped, not where
// the codes of the last answer have it.
function objectAt(point) {
  const item = chosen();
  const found = state.objects[codeAt(point) - 1];
  if (!item || !item.ahead) return found;
  if (covers(point, item)) return item;
  return found === item ? undefined : found;
}

function covers(point, item) {
  if (!inside(point, item)) return false;
  if (!state.tileImage) return true;
  const local = new DOMMatrix(item.transform).inverse().transformPoint(new DOMPoint(...point));
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  pen.drawImage(state.tileImage, -Math.floor(local.x), -Math.floor(local.y), item.tile[0], item.tile[1]);
  return pen.getImageData(0, 0, 1, 1).data[3] > 127;
}

function startEdit(point, event) {
  if (shaping && shapable()) {
    startMark(point, event);
    return;
  }
  let item = chosen();
  const handle = handleAt(point);
  if (handle) {
    const [x, y] = [point[0] - item.centre[0], point[1] - item.centre[1]];
    gesture = { kind: handle, id: item.id, from: point, reach: Math.hypot(x, y) || 1, angle: Math.atan2(y, x), factor: 1, turned: 0 };
    return;
  }
  const found = objectAt(point);
  if (!found && !(item && inside(point, item))) {
    if (item) send({ mode: "edit", op: "select", id: null });
    state.selected = null;
    return;
  }
  if (found && found.id !== state.selected) {
    item = found;
    state.selected = found.id;
    state.underImage = state.tileImage = null;
    state.along = [];
    send({ mode: "edit", op: "select", id: found.id });
  }
  if (!item.locked) gesture = { kind: "move", id: item.id, from: point, dx: 0, dy: 0, moved: false };
}

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

function drawFrame(item) {
  const { frame, top, knob } = handlesOf(item);
  path([top, knob], false);
  lines(1.5, [[1.5, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
  path(frame, true);
  lines(1.5, [[1.5, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
  for (const [x, y] of frame) dot(x, y, 5.5, "#fff");
  dot(knob[0], knob[1], 6, "#bfdbfe");
}

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
  const parts = taken(item);
  const map = placed(item);
  gesture = null;
  for (const [, one, { a, b, c, d, e, f }] of parts) one.transform = [a, b, c, d, e, f];
  item.ahead = true;
  const centre = map.transformPoint(new DOMPoint(item.tile[0] / 2, item.tile[1] / 2));
  item.centre = [centre.x, centre.y];
  if (state.underImage && state.tileImage) {
    const sheet = new OffscreenCanvas(state.width, state.height);
    const pen = sheet.getContext("2d");
    pen.drawImage(state.underImage, 0, 0, state.width, state.height);
    drawDragged(pen, parts, 1);
    state.image = sheet;
  }
  send({ mode: "edit", id: item.id, ...data });
}

function nudge(event) {
  const step = event.shiftKey ? 10 : 1;
  const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  const way = ways[event.key];
  if (!way) return;
  event.preventDefault();
  const item = chosen();
  if (item.locked) return;
  keep(item, { kind: "move", id: item.id, dx: way[0], dy: way[1] }, { op: "move", dx: way[0], dy: way[1] });
  draw();
}
