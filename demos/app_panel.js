// The list of objects with what can be done to the chosen one. Runs as `js_on_load` of a gr.HTML; `props.value` is what
// app_view.panel_value returns.
const root = element.querySelector(".ad-panel");

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

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(label, title, data, disabled = false) {
  const node = make("button", { type: "button", textContent: label, title, disabled });
  node.setAttribute("aria-label", title);
  node.addEventListener("click", () => trigger("act", { mode: props.value.mode, ...data }));
  return node;
}

function row(item, value) {
  const picture = make("img", { src: item.thumb, alt: "", className: "ad-thumb" });
  const swatch = make("span", { className: "ad-swatch" });
  swatch.style.background = item.colour;
  const words = make("span", { className: "ad-words" }, make("span", { className: "ad-name" }, swatch, item.name), make("small", { textContent: item.about }));
  const line = make("button", { type: "button", className: "ad-row" }, picture, words);
  line.setAttribute("aria-pressed", String(item.id === value.selected));
  line.dataset.id = item.id;
  line.addEventListener("click", () => trigger("act", { mode: value.mode, op: "select", id: item.id === value.selected ? null : item.id }));
  return line;
}

function field(label, value, options, commit) {
  const input = make("input", { value, ...options });
  input.setAttribute("aria-label", label);
  let sent = String(value);
  const done = () => {
    if (input.value === sent || input.value === "") return;
    sent = input.value;
    commit(input.value);
  };
  input.addEventListener("change", done);
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") done(); });
  return make("label", { className: "ad-field" }, make("span", { textContent: label }), input);
}

function details(item, value) {
  const act = (data) => trigger("act", { mode: value.mode, id: item.id, ...data });
  const box = make("div", { className: "ad-details" });
  box.append(field("Name", item.name, { type: "text", maxLength: 60 }, (name) => act({ op: "rename", name })));
  if (value.mode === "mark") {
    box.append(make("div", { className: "ad-actions" }, button("Delete", "Delete this object", { op: "remove", id: item.id })));
    return box;
  }
  const number = (label, shown, step, op, key) =>
    field(label, shown, { type: "number", step }, (text) => act({ op, [key]: Number(text) }));
  box.append(make("div", { className: "ad-numbers" },
    number("X", item.x, 1, "place", "x"),
    number("Y", item.y, 1, "place", "y"),
    number("Size %", item.scale, 5, "scale", "percent"),
    number("Rotation °", item.rotation, 5, "rotate", "degrees")));
  const actions = make("div", { className: "ad-actions" });
  for (const [label, op, title] of ACTIONS) {
    actions.append(button(label, title, op === "flip-v" ? { op: "flip", vertical: true, id: item.id } : { op, id: item.id }));
  }
  box.append(actions);
  const others = value.objects.filter((other) => other.id !== item.id);
  if (others.length) {
    const choice = make("select", {}, make("option", { value: "", textContent: "Swap front and back with …" }));
    choice.setAttribute("aria-label", "Swap order with");
    for (const other of others) choice.append(make("option", { value: other.id, textContent: other.name }));
    choice.addEventListener("change", () => { if (choice.value !== "") act({ op: "swap", other: Number(choice.value) }); });
    box.append(choice);
  }
  return box;
}

function show(value) {
  const list = root.querySelector(".ad-list");
  const top = list ? list.scrollTop : 0;
  root.replaceChildren();
  if (!value || !value.mode) return;
  root.dataset.mode = value.mode;
  root.dataset.stamp = value.stamp;
  const bar = make("div", { className: "ad-bar" },
    make("strong", { textContent: value.title }),
    button("↶ Undo", "Undo (Ctrl+Z)", { op: "undo" }, !value.canUndo),
    button("↷ Redo", "Redo (Ctrl+Shift+Z)", { op: "redo" }, !value.canRedo));
  if (value.mode === "edit") bar.append(button("Reset", "Back to the photo as it was", { op: "reset" }, !value.canUndo));
  else bar.append(button("Clear", "Remove all objects", { op: "clear" }, !value.objects.length));
  root.append(bar);
  const rows = make("div", { className: "ad-list" }, ...value.objects.map((item) => row(item, value)));
  if (!value.objects.length) rows.append(make("p", { className: "ad-none", textContent: value.none }));
  root.append(rows);
  rows.scrollTop = top;
  const chosen = value.objects.find((item) => item.id === value.selected);
  if (chosen) root.append(details(chosen, value));
  else if (value.objects.length) root.append(make("p", { className: "ad-none", textContent: "Choose an object here or on the picture." }));
}

watch("value", () => show(props.value));
show(props.value);
