let onShow = null;

function show(value, again = show) {
  value = newest(value, again && ((late) => show(late, null)));
  if (value === undefined) return;
  onShow = value;
  const list = root.querySelector(".ad-list");
  const top = list ? list.scrollTop : 0;
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
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
  const rows = make("ul", { className: "ad-list" }, ...value.objects.map((item) => row(item, value)));
  rows.setAttribute("aria-label", value.mode === "edit" ? "Layers, the front one first" : "Objects, the last one first");
  if (!value.objects.length) rows.append(make("li", { className: "ad-none", textContent: value.none }));
  root.append(rows);
  rows.scrollTop = top;
  const chosen = value.objects.find((item) => item.id === value.selected);
  if (chosen) root.append(details(chosen, value));
  else if (value.objects.length) root.append(make("p", { className: "ad-none", textContent: "Choose an object here or on the picture." }));
  const refocused = key && [...root.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key);
  if (refocused) refocused.focus({ preventScroll: true });
}

// Something was chosen, here or on the picture.
desk.listeners.add(() => {
  const { choice } = desk;
  if (onShow && isNewer(choice, onShow) && choice.id !== onShow.selected) show({ ...onShow, selected: choice.id }, null);
});

watch("value", () => show(props.value));
show(props.value);
