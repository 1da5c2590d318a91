// What pointers do, by the mode of the picture: a mouse, a pen, one finger or two.
const down = new Map(); // pointers that are down, where they are on the screen
let spaceHeld = false;

canvas.addEventListener("pointerdown", (event) => {
  if (!state) return;
  event.preventDefault();
  root.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  down.set(event.pointerId, [event.clientX, event.clientY]);
  if (down.size > 1) {
    // What one finger had begun was the beginning of two.
    gesture = { kind: "pinch", ...spread() };
  } else if (event.button === 1 || (event.button === 0 && (spaceHeld || state.mode === "look" || isWorking()))) {
    gesture = { kind: "pan", last: [event.clientX, event.clientY] };
  } else if (!isWorking() && (event.button === 0 || event.button === 5 || (event.button === 2 && state.mode === "mark" && tool === "click"))) {
    const point = at(event);
    pointer = point;
    if (state.mode === "edit") startEdit(point, event);
    else startMark(point, event);
  }
  canvas.style.cursor = cursorAt(at(event));
  draw();
});

canvas.addEventListener("pointermove", (event) => {
  if (!state) return;
  if (down.has(event.pointerId)) down.set(event.pointerId, [event.clientX, event.clientY]);
  const point = at(event);
  pointer = point;
  if (!gesture) {
    hovered = codeAt(point);
    canvas.style.cursor = cursorAt(point);
  } else if (gesture.kind === "pan") {
    const [x, y] = gesture.last;
    gesture.last = [event.clientX, event.clientY];
    panBy(event.clientX - x, event.clientY - y);
  } else if (gesture.kind === "pinch") {
    if (down.size > 1) pinch();
  } else if (gesture.byKeys) {
    pointer = null;
  } else if (gesture.kind === "mark") {
    followMark(event);
  } else {
    followEdit(point, event.shiftKey);
  }
  draw();
});

// The middle of two fingers, and how far they are apart.
function spread() {
  const [[a, b], [c, d]] = down.values();
  return { middle: [(a + c) / 2, (b + d) / 2], apart: Math.max(10, Math.hypot(a - c, b - d)) };
}

function pinch() {
  const now = spread();
  const box = view.getBoundingClientRect();
  const [x, y] = now.middle;
  zoomBy(now.apart / gesture.apart, x - box.left, y - box.top, x - gesture.middle[0], y - gesture.middle[1]);
  Object.assign(gesture, now);
}

function cursorAt(point) {
  if (spaceHeld || (gesture && gesture.kind === "pan")) return gesture ? "grabbing" : "grab";
  if (state.mode === "look") return zoom.factor > 1 ? "grab" : "default";
  if (state.mode === "mark") return tool === "select" ? "pointer" : tool === "brush" || tool === "erase" ? "none" : "crosshair";
  if (shaping) return "none";
  const handle = handleAt(point);
  if (handle) return handle === "rotate" ? "grab" : "nwse-resize";
  const item = chosen();
  return codeAt(point) || (item && inside(point, item)) ? "move" : "default";
}

function release(event) {
  down.delete(event.pointerId);
  const done = gesture;
  // The finger that stays down after a pinch does nothing more.
  if (done && done.kind === "pinch" && down.size) return null;
  gesture = null;
  if (event.pointerType !== "mouse") pointer = null;
  return done;
}

canvas.addEventListener("pointerup", (event) => {
  const done = release(event);
  if (!done || !state) return;
  if (state.mode === "mark" && done.tool) endMark(done, event);
  else if (state.mode === "edit" && done.tool) endShape(done);
  else if (state.mode === "edit" && done.moved) endEdit(done);
  canvas.style.cursor = cursorAt(at(event));
  draw();
});
canvas.addEventListener("pointercancel", (event) => { release(event); draw(); });
canvas.addEventListener("pointerleave", () => { pointer = null; hovered = 0; draw(); });
canvas.addEventListener("dblclick", () => closeOutline());
canvas.addEventListener("contextmenu", (event) => { if (state && state.mode === "mark" && tool === "click") event.preventDefault(); });
canvas.addEventListener("mousedown", (event) => { if (event.button === 1) event.preventDefault(); }); // which would scroll
