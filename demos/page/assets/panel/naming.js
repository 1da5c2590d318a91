// Renaming in place: a double click on a row, F2, or the button below the list.
function rename(id) {
  const value = onShow;
  const item = value && value.objects.find((one) => one.id === id);
  const line = root.querySelector(`.ad-row[data-id="${id}"]`);
  if (!item || !line) return;
  const input = make("input", { type: "text", value: item.name, maxLength: 60, className: "ad-rename" });
  input.setAttribute("aria-label", `New name of ${item.name}`);
  let open = true;
  const close = (keep) => {
    if (!open) return;
    open = false;
    const name = input.value.trim();
    input.replaceWith(line);
    line.focus({ preventScroll: true });
    if (keep && name && name !== item.name) trigger("act", { mode: value.mode, op: "rename", id, name });
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter") close(true);
    if (event.key === "Escape") close(false);
  });
  input.addEventListener("blur", () => close(true));
  line.replaceWith(input);
  input.focus();
  input.select();
}
