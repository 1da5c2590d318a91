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
