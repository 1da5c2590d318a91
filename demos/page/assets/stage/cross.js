// Marking without a pointer: Enter brings a cross to the picture, arrow keys move it, Enter does what a click would.
let cross = null; // where it is, in pixels of the picture
let tabbed = false; // who came here came by Tab, and not by a pointer

function takesCross() {
  return Boolean(state && (state.mode === "mark" || shaping) && document.activeElement === root && !isWorking());
}

// What Enter does: a click, a corner, or the beginning and the end of a stroke.
function pressCross(event) {
  if (!cross && corners.length > 2) return closeOutline();
  if (!cross) cross = middleOfView();
  else if (gesture && gesture.byKeys) endKeyed();
  else if ((shaping || tool) === "brush" || (shaping || tool) === "erase") beginKeyed(event);
  else if (tool === "outline") setCorner();
  else if (tool === "select") endMark({ tool, points: [cross], moved: false });
  else ask({ op: "click", point: inPhoto(cross), positive: leaveOut === event.shiftKey });
  buildTools();
  draw();
}

// What B does: one corner of a box, and the one across from it.
function boxCorner(event) {
  if (gesture && gesture.byKeys) endKeyed();
  else beginKeyed(event);
  buildTools();
  draw();
}

function beginKeyed(event) {
  gesture = { kind: "mark", tool: shaping || tool, points: [cross], start: [0, 0], moved: true, negative: event.shiftKey, byKeys: true };
}

function endKeyed() {
  const done = gesture;
  gesture = null;
  if (state.mode === "edit") endShape(done);
  else endMark(done);
}

function setCorner() {
  const last = corners[corners.length - 1];
  if (corners.length > 2 && (near(cross, corners[0], 12) || near(cross, last, 3))) closeOutline();
  else if (!last || !near(cross, last, 3)) corners.push(cross);
}

function middleOfView() {
  return inPhoto([(view.clientWidth / 2 - fit.left) / fit.scale, (view.clientHeight / 2 - fit.top) / fit.scale]);
}

// A step is small for one press, and larger with Shift or while the key is held.
function moveCross(key, event) {
  const step = (event.shiftKey ? 20 : event.repeat ? 6 : 2) / fit.scale;
  const [dx, dy] = WAYS[key].map((way) => -Math.sign(way) * step);
  cross = inPhoto([cross[0] + dx, cross[1] + dy]);
  if (gesture && gesture.byKeys) gesture.points.push(cross);
  const [x, y] = [fit.left + cross[0] * fit.scale, fit.top + cross[1] * fit.scale];
  const beyond = (at, room) => Math.min(0, room - 30 - at) + Math.max(0, 30 - at);
  if (zoom.factor > 1) panBy(beyond(x, view.clientWidth), beyond(y, view.clientHeight));
  draw();
}

function drawCross() {
  const [x, y] = cross;
  const [gap, arm] = [4 / fit.scale, 16 / fit.scale];
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    path([[x + dx * gap, y + dy * gap], [x + dx * arm, y + dy * arm]], false);
    lines(2, [[2.5, "rgba(255,255,255,.95)"], [0, "#1d4ed8"]]);
  }
}

const CROSS_KEYS = {
  click: "Enter clicks, Shift+Enter leaves out, B sets two corners of a box.",
  outline: "Enter sets a corner, and twice at one place ends the outline.",
  brush: "Enter begins a stroke and ends it.",
  erase: "Enter begins a stroke and ends it.",
  select: "Enter chooses.",
};

// What people who use keys are told; "" while a pointer is used.
function crossHint() {
  if (!takesCross()) return "";
  if (cross) return `Arrow keys move the cross, with Shift farther. ${CROSS_KEYS[shaping || tool]} Esc takes it away.`;
  return tabbed ? "Enter brings a cross that the arrow keys move." : "";
}

root.addEventListener("focus", showHint); // alone: a button that is pressed is not built anew under the pointer
root.addEventListener("blur", showHint);
canvas.addEventListener("pointerdown", () => { cross = null; });
document.addEventListener("keydown", (event) => { tabbed ||= event.key === "Tab"; }, true);
document.addEventListener("pointerdown", () => { tabbed = false; }, true);
