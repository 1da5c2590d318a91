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
