// The buttons above the picture, the line below it, and what is said of the last step.
const TOOLS = {
  click: ["Click", "Click an object, or drag a box around it.", "Shift leaves out what is not of it."],
  outline: ["Outline", "Draw around a new object, or set its corners with clicks; the first corner closes it.", "So does Enter."],
  brush: ["Brush", "", "[ and ] change the size."],
  erase: ["Eraser", "Take pixels away from the object under the pointer.", "[ and ] change the size."],
  select: ["Choose", "Click an object to choose it."],
};
const OVER = {
  smaller: ["smaller in front", "Where two objects overlap, the smaller one is in front."],
  top: ["new in front", "Where a new shape overlaps objects, it is in front and takes their pixels."],
  under: ["new behind", "Where a new shape overlaps objects, they are in front and keep their pixels."],
};
const SHAPING = {
  brush: ["Add to shape", "Strokes are added to the shape of the chosen object", "Paint what “NAME” is to have; its colours are carried over.", "[ and ] change the size, Esc ends it."],
  erase: ["Take from shape", "Strokes are taken from the shape of the chosen object", "Paint what “NAME” is not to have.", "[ and ] change the size, Esc ends it."],
};
const notice = root.querySelector(".ad-notice");
let toolsOnShow = "";

function usable(name) {
  return name !== "click" || state.canClick;
}

function buildTools() {
  showNotice();
  if (!state) {
    tools.replaceChildren();
    hint.textContent = toolsOnShow = "";
    return;
  }
  const marking = state.mode === "mark";
  if (marking && !usable(tool)) tool = "outline";
  if (!shapable()) shaping = null;
  showHint();
  // Only what has changed is built anew: nobody loses the focus, or a slider under the finger.
  const wanted = JSON.stringify([state.mode, state.title, Boolean(state.before), shapable() && [shaping], marking && [tool, leaveOut, over, state.selected === null, state.canClick, state.canUndo]]);
  if (wanted === toolsOnShow) return;
  toolsOnShow = wanted;
  const focused = tools.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  tools.replaceChildren(...(marking ? markTools() : seenTools()));
  if (focused) tools.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
  showBrush();
}

function showHint() {
  if (!state) return;
  const shape = shapable() ? shaping : null;
  const words = state.mode === "mark" ? markHint() : shape ? SHAPING[shape][2].replace("NAME", chosen().name) : state.hint || "";
  const keys = state.mode === "mark" ? markKeys() : shape ? SHAPING[shape][3] : state.keys;
  const alone = crossHint();
  const more = alone ? [span("", ` ${alone}`)] : keys ? [span("ad-keys", ` ${keys}`)] : []; // a phone has none
  hint.replaceChildren(alone && cross ? "" : words, ...more);
  hint.classList.toggle("ad-crossed", Boolean(alone && cross));
}

function markHint() {
  const item = chosen();
  if (item && tool === "click") return `“${item.name}” is chosen: more clicks refine it.`;
  if (tool === "brush") return item ? `Paint over “${item.name}”.` : "Paint over a new object.";
  if (item && tool === "erase") return `Take pixels away from “${item.name}”.`;
  return TOOLS[tool][1];
}

// What a phone has no keys or no room for.
function markKeys() {
  const item = chosen();
  const alone = state.objects.every((other) => other === item); // nothing is there that could overlap
  return [TOOLS[tool][2], alone || ["select", "erase"].includes(tool) ? "" : OVER[over][1]].filter(Boolean).join(" ");
}

function span(className, text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

function pressable(key, label, title, pressed, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: label, title });
  button.dataset.key = key;
  if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
  button.addEventListener("click", act);
  return button;
}

function seenTools() {
  const title = span("ad-title", state.title || "");
  return [title, ...(shapable() ? shapeTools() : []), ...(state.before ? [compareButton()] : [])];
}

function shapeTools() {
  const buttons = Object.entries(SHAPING).map(([name, [label, title]]) =>
    pressable(name, label, title, shaping === name, () => chooseShaping(shaping === name ? null : name)));
  return shaping ? [...buttons, brushSize()] : buttons;
}

function chooseShaping(name) {
  shaping = name;
  buildTools();
  draw();
}

// What belongs to the tool in use stands beside it, since on a phone the rest is beyond the edge.
function markTools() {
  const fresh = pressable("new", "New object", "The next click or stroke begins a new object (N)", state.selected === null, newObject);
  fresh.classList.add("ad-new");
  const parts = [fresh];
  for (const [name, [label, title]] of Object.entries(TOOLS)) {
    if (!usable(name)) continue;
    parts.push(pressable(name, label, title, tool === name, () => chooseTool(name)));
    if (tool !== name) continue;
    if (name === "click") parts.push(pressable("leave", "Leave out", "Clicks are on what is not of the object", leaveOut, () => { leaveOut = !leaveOut; buildTools(); }));
    if (name === "brush" || name === "erase") parts.push(brushSize());
  }
  const undo = pressable("undo", "↶", "Take the last step back", null, () => send({ mode: "mark", op: "undo" }));
  undo.setAttribute("aria-label", "Take the last step back");
  undo.disabled = !state.canUndo;
  parts.push(undo);
  if (tool !== "select" && tool !== "erase") parts.push(overlapChoice());
  return parts;
}

function chooseTool(name) {
  tool = name;
  corners = [];
  buildTools();
  const button = tools.querySelector(`[data-key="${name}"]`);
  if (tools.scrollWidth > tools.clientWidth) tools.scrollLeft = button.offsetLeft - tools.offsetLeft - 8;
  draw();
}

// The slider is finer for small brushes: half of it is a quarter of the largest.
function brushSize() {
  const label = Object.assign(document.createElement("label"), { className: "ad-size" });
  const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, step: 1 });
  range.dataset.key = "brush";
  range.setAttribute("aria-label", "Brush size");
  range.addEventListener("input", () => setBrush(1 + 199 * (range.value / 100) ** 2));
  const ring = span("ad-ring", "");
  ring.append(document.createElement("i"));
  label.append("Size", range, ring, span("ad-width", ""));
  return label;
}

function showBrush() {
  const label = tools.querySelector(".ad-size");
  if (!label) return;
  const range = label.querySelector("input");
  const place = Math.round(100 * Math.sqrt((brush - 1) / 199));
  if (Math.abs(range.value - place) > 1 || !range.matches(":active")) range.value = place;
  range.setAttribute("aria-valuetext", `${brush} pixels`);
  label.querySelector(".ad-width").textContent = `${brush} px`;
  const shown = Math.min(32, Math.max(2, brush * fit.scale)); // as at the pointer, where there is room for it
  Object.assign(label.querySelector("i").style, { width: `${shown}px`, height: `${shown}px` });
}

function overlapChoice() {
  const label = Object.assign(document.createElement("label"), { className: "ad-over" });
  const choice = document.createElement("select");
  choice.dataset.key = "over";
  choice.setAttribute("aria-label", "Where objects overlap");
  for (const [value, [text]] of Object.entries(OVER)) choice.append(new Option(text, value, false, value === over));
  choice.addEventListener("change", () => { over = choice.value; buildTools(); });
  label.append("Overlap", choice);
  return label;
}

// What a shape had in common with other objects, and the other way to settle it.
function showNotice() {
  const said = state && state.mode === "mark" ? state.notice : null;
  notice.hidden = !said;
  notice.replaceChildren();
  if (!said) return;
  notice.append(span("", said.text));
  for (const [label, rule] of said.ways) {
    notice.append(pressable(rule, label, label, null, () => send({ mode: "mark", op: "overlap", over: rule })));
  }
  const close = pressable("close", "×", "Close", null, () => { state.notice = null; showNotice(); });
  close.setAttribute("aria-label", "Close");
  notice.append(close);
}
