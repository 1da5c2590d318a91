// Keys of the picture.
function onKey(event) {
  if (!root.isConnected) {
    document.removeEventListener("keydown", onKey);
    return;
  }
  const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable=true]");
  if (!state || (typing && typing.type !== "range") || !root.offsetParent || state.mode === "look" || isWorking()) return;
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

document.addEventListener("keydown", onKey);
