// Keys of the picture.
function onKey(event) {
  if (!root.isConnected) {
    document.removeEventListener("keydown", onKey);
    document.removeEventListener("keyup", onKeyUp);
    return;
  }
  const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable=true]");
  if (document.querySelector("dialog[open]")) return; // a question is answered first
  if (!state || (typing && typing.type !== "range") || !root.offsetParent) return;
  const key = event.key.toLowerCase();
  const onPicture = [root, document.body].includes(document.activeElement);
  if (onPicture && !event.ctrlKey && !event.metaKey && !event.altKey && viewKey(event, key)) {
    event.preventDefault();
    return;
  }
  if (state.mode === "look" || isWorking()) return;
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    event.preventDefault();
    send({ mode: state.mode, op: key === "y" || event.shiftKey ? "redo" : "undo" });
  } else if (key === "escape") {
    corners = [];
    if (gesture) gesture = null;
    else if (cross) {
      cross = null;
      buildTools();
    } else if (shaping) chooseShaping(null);
    else if (state.selected !== null) send({ mode: state.mode, op: "select", id: null });
    draw();
  } else if (key === "enter" && takesCross()) {
    event.preventDefault();
    pressCross(event);
  } else if (key === "enter") closeOutline();
  else if ((key === "delete" || key === "backspace") && chosen()) {
    event.preventDefault();
    send({ mode: state.mode, op: "remove", id: state.selected });
  } else if (state.mode === "edit" && chosen() && document.activeElement === root) nudge(event);
}

const VIEW_KEYS = {
  "+": () => zoomBy(STEP),
  "=": () => zoomBy(STEP), // the same key on most keyboards
  "-": () => zoomBy(1 / STEP),
  0: zoomToFit,
  " ": () => { spaceHeld = true; canvas.style.cursor = "grab"; },
};
const BRUSH_KEYS = { "[": () => setBrush(brush / 1.2 - 0.5), "]": () => setBrush(brush * 1.2 + 0.5) };
const MARK_KEYS = { n: newObject, ...BRUSH_KEYS };
const WAYS = { arrowleft: [60, 0], arrowright: [-60, 0], arrowup: [0, 60], arrowdown: [0, -60] };

// Single keys work where the picture has the focus, or nothing has it. Arrows move the picture where nothing is chosen.
function viewKey(event, key) {
  const act = VIEW_KEYS[key] || (!isWorking() && ((state.mode === "mark" && MARK_KEYS[key]) || (shaping && BRUSH_KEYS[key])));
  if (act) {
    act();
    return true;
  }
  if (cross && takesCross() && (WAYS[key] || (key === "b" && state.mode === "mark" && tool === "click"))) {
    if (key === "b") boxCorner(event);
    else moveCross(key, event);
    return true;
  }
  const moves = WAYS[key] && zoom.factor > 1 && document.activeElement === root && !(state.mode === "edit" && chosen());
  if (moves) panBy(...WAYS[key]);
  return moves;
}

function onKeyUp(event) {
  if (event.key === " ") spaceHeld = false;
}

document.addEventListener("keydown", onKey);
document.addEventListener("keyup", onKeyUp);
window.addEventListener("blur", () => { spaceHeld = false; });
