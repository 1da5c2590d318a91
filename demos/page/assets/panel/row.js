// One object in the list: an eye, the object itself, a lock, and a handle that moves it in the stack.
const ICONS = {
  eye: "M1.5 10S4.5 4.5 10 4.5 18.5 10 18.5 10 15.5 15.5 10 15.5 1.5 10 1.5 10ZM10 7.2A2.8 2.8 0 1 1 10 12.8 2.8 2.8 0 0 1 10 7.2Z",
  closed: "M1.5 9S4.5 14 10 14 18.5 9 18.5 9M4 12 2.6 14M10 14V16.4M16 12 17.4 14",
  locked: "M4.5 9H15.5V17H4.5ZM6.8 9V6.5A3.2 3.2 0 0 1 13.2 6.5V9",
  open: "M4.5 9H15.5V17H4.5ZM6.8 9V6A3.2 3.2 0 0 1 13 5",
  link: "M8.5 11.5 11.5 8.5M9 6.5 11 4.5A3.2 3.2 0 0 1 15.5 9L13.5 11M11 13.5 9 15.5A3.2 3.2 0 0 1 4.5 11L6.5 9",
  grip: "M6 5H14M6 10H14M6 15H14",
};

function row(item, value) {
  const picture = make("img", { src: item.thumb, alt: "", className: "ad-thumb" });
  const swatch = make("span", { className: "ad-swatch" });
  swatch.style.background = item.colour;
  const words = make("span", { className: "ad-words" }, make("span", { className: "ad-name" }, swatch, item.name), make("small", { textContent: item.about }));
  const line = keyed(make("button", { type: "button", className: "ad-row", title: "Double click or F2 renames" }, picture, words), `row ${item.id}`);
  line.setAttribute("aria-pressed", String(item.id === value.selected));
  line.dataset.id = item.id;
  line.addEventListener("click", (event) => {
    if (event.detail < 2) trigger("act", { mode: value.mode, op: "select", id: item.id === value.selected ? null : item.id });
  });
  line.addEventListener("dblclick", () => rename(item.id));
  line.addEventListener("keydown", (event) => {
    if (event.key !== "F2") return;
    event.preventDefault();
    rename(item.id);
  });
  const place = make("li", { className: "ad-item" }, line);
  place.dataset.id = item.id;
  if (value.mode !== "edit") return place;
  place.classList.toggle("hidden-layer", !item.visible);
  place.prepend(flag(item, "eye", item.visible ? "eye" : "closed", `Show ${item.name}`, item.visible, { op: "show", visible: !item.visible }));
  place.append(flag(item, "lock", item.locked ? "locked" : "open", `Lock ${item.name}`, item.locked, { op: "lock", locked: !item.locked }), grip(item, value));
  return place;
}

// A switch of a row; its label stays, and whether it is on is said by its state.
function flag(item, name, picture, label, on, data) {
  const node = keyed(make("button", { type: "button", className: `ad-flag ad-${name}`, title: label }, icon(ICONS[picture])), `${name} ${item.id}`);
  node.setAttribute("aria-label", label);
  node.setAttribute("aria-pressed", String(on));
  node.addEventListener("click", () => trigger("act", { mode: "edit", id: item.id, ...data }));
  return node;
}
