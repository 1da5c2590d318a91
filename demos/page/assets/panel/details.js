// What can be done to the chosen object.
const ACTIONS = [
  ["Front", "front", "Bring to the front of everything"],
  ["Forward", "forward", "One step to the front"],
  ["Backward", "backward", "One step to the back"],
  ["Back", "back", "Send behind everything"],
  ["Flip ↔", "flip", "Mirror left to right"],
  ["Flip ↕", "flip-v", "Mirror top to bottom"],
  ["Duplicate", "duplicate", "A copy beside it"],
  ["Delete", "remove", "Remove it (Del)"],
];
let ratioKept = true; // width and height change alike
let filler = null; // that was chosen last
const FILLERS = JSON.parse(root.dataset.fillers); // keys and what the page calls them

function details(item, value) {
  const act = (data) => trigger("act", { mode: value.mode, id: item.id, ...data });
  const box = make("div", { className: "ad-details" });
  const naming = keyed(make("button", { type: "button", textContent: "Rename", title: "Rename it (F2)" }), "Rename");
  naming.setAttribute("aria-label", `Rename ${item.name} (F2)`);
  naming.addEventListener("click", () => rename(item.id));
  if (value.mode === "mark") {
    box.append(make("div", { className: "ad-actions" }, naming, button("Delete", "Delete this object", { op: "remove", id: item.id })));
    return box;
  }
  box.append(numbers(item, act));
  const actions = make("div", { className: "ad-actions" }, naming);
  for (const [label, op, title] of ACTIONS) {
    actions.append(button(label, title, op === "flip-v" ? { op: "flip", vertical: true, id: item.id } : { op, id: item.id }));
  }
  if (item.carries.length) box.append(carrying(item, act));
  box.append(actions);
  if (item.overlaps.length) box.append(overlaps(item, act));
  if (item.paintable && FILLERS.length) box.append(painting(item));
  return box;
}

function numbers(item, act) {
  const number = (label, shown, step, data) =>
    field(label, shown, { type: "number", step }, (text) => act(data(Number(text))));
  const side = (label, shown, name) =>
    number(label, shown, 5, (percent) => ({ op: "stretch", side: name, percent, keep: ratioKept }));
  const link = keyed(make("button", { type: "button", className: "ad-link", title: "Keep the ratio of width and height" }, icon(ICONS.link)), "ratio");
  link.setAttribute("aria-label", "Keep the ratio of width and height");
  link.setAttribute("aria-pressed", String(ratioKept));
  link.addEventListener("click", () => {
    ratioKept = !ratioKept;
    link.setAttribute("aria-pressed", String(ratioKept));
  });
  const opacity = keyed(make("input", { type: "range", min: 0, max: 100, step: 5, value: item.opacity }), "Opacity");
  opacity.setAttribute("aria-label", "Opacity");
  const shown = make("output", { textContent: `${item.opacity}%` });
  opacity.addEventListener("input", () => { shown.textContent = `${opacity.value}%`; });
  opacity.addEventListener("change", () => act({ op: "fade", percent: Number(opacity.value) }));
  return make("div", { className: "ad-numbers" },
    number("X", item.x, 1, (x) => ({ op: "place", x })),
    number("Y", item.y, 1, (y) => ({ op: "place", y })),
    number("Rotation °", item.rotation, 5, (degrees) => ({ op: "rotate", degrees })),
    make("div", { className: "ad-sides" }, side("Width %", item.width, "width"), link, side("Height %", item.height, "height")),
    make("label", { className: "ad-opacity" }, make("span", { textContent: "Opacity" }), opacity, shown));
}

// Whether moving, deleting and so on take along what stands on the object or is held by it.
function carrying(item, act) {
  const choice = keyed(make("input", { type: "checkbox", checked: item.carry }), "carry");
  choice.addEventListener("change", () => act({ op: "carry", on: choice.checked }));
  return make("label", { className: "ad-carrying" }, choice, make("span", { textContent: `With what stands on it: ${item.carries.join(", ")}` }));
}

// Who of two objects that overlap is in front, and the button that changes it.
function overlaps(item, act) {
  const rows = item.overlaps.map((other) => {
    const label = other.front ? `Put behind ${other.name}` : `Bring in front of ${other.name}`;
    const change = keyed(make("button", { type: "button", textContent: other.front ? "Put behind" : "Bring in front" }), `order ${other.id}`);
    change.setAttribute("aria-label", label);
    change.addEventListener("click", () => act({ op: "swap", other: other.id }));
    return make("li", {}, make("span", {}, other.front ? "in front of " : "behind ", make("b", { textContent: other.name })), change);
  });
  return make("div", { className: "ad-overlaps" }, make("span", { className: "ad-caption", textContent: `${item.name} is` }), make("ul", {}, ...rows));
}

function painting(item) {
  const choice = keyed(make("select", {}, ...FILLERS.map(([key, label]) => make("option", { value: key, textContent: label }))), "filler");
  choice.setAttribute("aria-label", "Fill the hidden part with");
  if (filler) choice.value = filler;
  choice.addEventListener("change", () => { filler = choice.value; });
  const go = keyed(make("button", { type: "button", textContent: "Repaint", title: "Paint the hidden part of this object anew" }), "repaint");
  go.setAttribute("aria-label", `Paint the hidden part of ${item.name} anew`);
  go.addEventListener("click", () => trigger("repaint", { id: item.id, filler: choice.value }));
  return make("div", { className: "ad-painting" }, make("span", { className: "ad-caption", textContent: "Hidden part" }), choice, go);
}
