// Marking objects: clicks and boxes, outline, brush, eraser, choosing.
let tool = "click";
let isNew = false; // "New object" was pressed: the next click makes one, also in an object that is marked
let lastClick = null; // a double click is one click
let leaveOut = false; // clicks are on what is not of the object
let brush = 24; // width in pixels of the picture
let shaping = null; // "brush" or "erase": strokes change the shape of the chosen object of the scene
let over = "smaller"; // which of two objects that overlap is in front
let corners = []; // of an outline that is set point by point
let asked = []; // clicks and strokes whose answers are not there yet; one at a time is on its way
let ringShown = null; // timer: the brush is shown in the middle while its size changes

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

function startMark(point, event) {
  const negative = leaveOut !== (event.button === 2 || event.shiftKey || event.altKey);
  const used = event.button === 5 ? "erase" : shaping || tool; // the other end of a pen
  gesture = { kind: "mark", tool: used, points: [point], start: [event.clientX, event.clientY], moved: false, negative };
}

function followMark(event) {
  for (const part of event.getCoalescedEvents ? event.getCoalescedEvents() : [event]) gesture.points.push(at(part));
  const far = event.pointerType === "touch" ? 10 : 5;
  gesture.moved ||= Math.hypot(event.clientX - gesture.start[0], event.clientY - gesture.start[1]) > far;
}

function endMark(done) {
  if (done.tool === "select") {
    const item = state.objects[codeAt(done.points[0]) - 1];
    if (!done.moved) send({ mode: "mark", op: "select", id: item ? item.id : null });
  } else if (done.tool === "click") {
    if (done.moved && !isSlip(done)) {
      if (!isBeside(done)) ask({ op: "click", box: boxOf(done) });
    } else if (onPicture(done.points[0]) && !isSecond(done)) ask({ op: "click", point: inPhoto(done.points[0]), positive: !done.negative });
  } else endLine(done);
}

// A hand that shook while it clicked draws a line of some pixels, which is no box.
function isSlip(done) {
  if (done.byKeys) return false;
  const [left, top, right, bottom] = boxOf(done);
  const sides = [right - left, bottom - top].map((side) => side * fit.scale).sort((a, b) => a - b);
  return sides[0] < 4 && sides[1] < 16 && onPicture(done.points[0]);
}

// All of the box lies beside the picture, where there is nothing to mark.
function isBeside(done) {
  const ends = [done.points[0], done.points[done.points.length - 1]];
  const sizes = [state.width, state.height];
  return [0, 1].some((axis) => ends.every((end) => end[axis] < 0) || ends.every((end) => end[axis] >= sizes[axis]));
}

function endLine(done) {
  if (done.tool === "outline" && !done.moved) {
    const point = done.points[0];
    if (corners.length > 2 && near(point, corners[0], 12)) closeOutline();
    else if (!corners.length || !near(point, corners[corners.length - 1], 3)) corners.push(point);
    return;
  }
  corners = [];
  ask({ op: "stroke", kind: done.tool, points: done.points.map(rounded), width: brush });
}

function closeOutline() {
  if (!state || state.mode !== "mark" || corners.length < 3) return;
  const points = corners;
  corners = [];
  ask({ op: "stroke", kind: "outline", points: points.map(rounded) });
  draw();
}

function rounded([x, y]) {
  return [Math.round(10 * x) / 10, Math.round(10 * y) / 10];
}

function onPicture([x, y]) {
  return x >= 0 && y >= 0 && x < state.width && y < state.height;
}

function isSecond(done) {
  const [before, now] = [lastClick, { time: performance.now(), start: done.start, negative: done.negative, seq: desk.seq }];
  lastClick = now;
  if (!before || now.time - before.time > 400 || now.negative !== before.negative || now.seq > before.seq + 1) return false;
  return Math.hypot(now.start[0] - before.start[0], now.start[1] - before.start[1]) < 6;
}

function inPhoto([x, y]) {
  return rounded([Math.min(Math.max(x, 0), state.width - 0.1), Math.min(Math.max(y, 0), state.height - 0.1)]);
}

function boxOf(done) {
  const [a, b] = [inPhoto(done.points[0]), inPhoto(done.points[done.points.length - 1])];
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
}

// The shape of an object of a scene.
function shapable() {
  const item = state && state.mode === "edit" ? chosen() : null;
  return Boolean(item && !item.locked);
}

function endShape(done) {
  const item = chosen();
  if (item) send({ id: item.id, kind: done.tool, points: done.points.map(rounded), width: brush }, "reshape");
}

// What is done to a new object belongs to the one that it makes, so the next is sent when its answer is there.
function ask(data) {
  asked.push({ data });
  if (asked.length === 1) sendAsked();
}

function sendAsked() {
  send({ mode: "mark", id: state.selected, new: isNew, over, ...asked[0].data });
  asked[0].seq = desk.seq;
}

function takeAnswers() {
  if (!state || state.mode !== "mark") asked = [];
  else if (asked.length && asked[0].seq <= state.seq) asked.shift();
}

function newObject() {
  corners = [];
  if (tool === "select" || tool === "erase") tool = state.canClick ? "click" : "outline";
  leaveOut = false;
  isNew = true;
  if (state.selected !== null || asked.length) ask({ op: "select", id: null });
  buildTools();
  draw();
}

function setBrush(width) {
  brush = Math.min(200, Math.max(1, Math.round(width)));
  clearTimeout(ringShown);
  ringShown = setTimeout(() => { ringShown = null; draw(); }, 900);
  showBrush();
  draw();
}

// Drawing

function drawMarking() {
  ctx.lineCap = ctx.lineJoin = "round";
  if (gesture && gesture.kind === "mark" && gesture.points.length > 1) drawGesture();
  if (corners.length) {
    path(pointer || cross ? [...corners, pointer || cross] : corners, false);
    lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    corners.forEach(([x, y], index) => dot(x, y, index ? 3.5 : 6, "#fff"));
  }
  drawClicks();
  if (!shaping && tool !== "brush" && tool !== "erase") return;
  const middle = [(view.clientWidth / 2 - fit.left) / fit.scale, (view.clientHeight / 2 - fit.top) / fit.scale];
  const [x, y] = pointer || cross || (ringShown ? middle : [null, null]);
  if (x === null) return;
  ctx.beginPath();
  ctx.arc(x, y, brush / 2, 0, 2 * Math.PI);
  lines(1.2, [[1.4, "rgba(0,0,0,.7)"], [0, "#fff"]]);
}

function drawGesture() {
  if (gesture.tool !== "click") drawLine(gesture.tool, gesture.points, brush);
  else if (gesture.moved) drawBox(...boxOf(gesture));
}

function drawLine(kind, points, width) {
  if (kind === "select") return;
  path(points, false);
  if (kind === "outline") {
    lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    return;
  }
  ctx.lineWidth = width;
  ctx.strokeStyle = kind === "erase" ? "rgba(220,38,38,.55)" : "rgba(29,78,216,.55)";
  ctx.stroke();
}

function drawBox(left, top, right, bottom) {
  path([[left, top], [right, top], [right, bottom], [left, bottom]], true);
  lines(1.5, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8", [6 / fit.scale, 4 / fit.scale]]]);
}

function drawClicks() {
  const clicks = state.clicks && state.clicks.id === state.selected ? state.clicks : { points: [], box: null };
  if (clicks.box) drawBox(...clicks.box);
  for (const [x, y, positive] of clicks.points) drawClick(x, y, positive, 1);
  for (const { data } of asked) {
    if (data.box) drawBox(...data.box);
    else if (data.point) drawClick(...data.point, data.positive, 0.6);
    else if (data.points) drawLine(data.kind, data.points, data.width);
  }
}

// Green with a plus on the object, red with a minus beside it.
function drawClick(x, y, positive, alpha) {
  const unit = 1 / fit.scale;
  ctx.save();
  ctx.globalAlpha = alpha;
  ctx.beginPath();
  ctx.arc(x, y, 7 * unit, 0, 2 * Math.PI);
  ctx.fillStyle = positive ? "#15803d" : "#b91c1c";
  ctx.fill();
  lines(2, [[0, "#fff"]]);
  path([[x - 3 * unit, y], [x + 3 * unit, y]], false);
  lines(1.8, [[0, "#fff"]]);
  if (positive) {
    path([[x, y - 3 * unit], [x, y + 3 * unit]], false);
    lines(1.8, [[0, "#fff"]]);
  }
  ctx.restore();
}
