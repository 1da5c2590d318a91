element.querySelectorAll(".ad-example").forEach((button) =>
  button.addEventListener("click", () => trigger("choose", { key: button.dataset.key, turn: performance.now() })));
