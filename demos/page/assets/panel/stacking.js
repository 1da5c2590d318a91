// The order of the layers: a row is dragged by its handle, or the arrow keys move it while the handle has the focus.
const told = make("div", { className: "ad-told" });
told.setAttribute("aria-live", "polite");
element.append(told);

function grip(item, value) {
  const label = `Move ${item.name} in the stack with the arrow keys`;
  const node = keyed(make("button", { type: "button", className: "ad-flag ad-grip", title: "Drag, or use the arrow keys" }, icon(ICONS.grip)), `grip ${item.id}`);
  node.setAttribute("aria-label", label);
  const from = value.objects.findIndex((one) => one.id === item.id); // from the front
  node.addEventListener("keydown", (event) => {
    const to = { ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: value.objects.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    restack(item, from, to, value);
  });
  node.addEventListener("pointerdown", (event) => drag(event, node, item, from, value));
  return node;
}

function restack(item, from, to, value) {
  const last = value.objects.length - 1;
  const place = Math.min(last, Math.max(0, to));
  if (place === from) return;
  told.textContent = `${item.name} is ${place + 1} of ${last + 1} from the front`;
  trigger("act", { mode: "edit", op: "restack", id: item.id, place: last - place });
}

function drag(event, node, item, from, value) {
  if (event.button !== 0) return;
  event.preventDefault();
  node.focus({ preventScroll: true });
  node.setPointerCapture(event.pointerId);
  const rows = [...root.querySelectorAll(".ad-item")];
  const list = root.querySelector(".ad-list");
  rows[from].classList.add("dragged");
  let to = from;
  const follow = (move) => {
    const box = list.getBoundingClientRect();
    if (move.clientY < box.top + 18) list.scrollTop -= 8;
    if (move.clientY > box.bottom - 18) list.scrollTop += 8;
    const middles = rows.map((one) => one.getBoundingClientRect()).map(({ top, height }) => top + height / 2);
    to = middles.filter((middle, index) => index !== from && middle < move.clientY).length;
    rows.forEach((one, index) => {
      one.classList.toggle("above", index === to && to < from);
      one.classList.toggle("below", index === to && to > from);
    });
  };
  const end = (done) => {
    node.removeEventListener("pointermove", follow);
    node.removeEventListener("pointerup", end);
    node.removeEventListener("pointercancel", end);
    rows.forEach((one) => one.classList.remove("dragged", "above", "below"));
    if (done.type === "pointerup") restack(item, from, to, value);
  };
  node.addEventListener("pointermove", follow);
  node.addEventListener("pointerup", end);
  node.addEventListener("pointercancel", end);
}
