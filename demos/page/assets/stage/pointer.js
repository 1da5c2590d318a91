// What the pointer does, by the mode of the picture.
canvas.addEventListener("pointerdown", (event) => {
  if (!state || event.button !== 0 || state.mode === "look" || isWorking()) return;
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
