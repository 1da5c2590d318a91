// Before and after: the photo is seen while the button or the key B is held.
let comparing = false;

function compare(on) {
  if (comparing === on) return;
  comparing = on;
  root.classList.toggle("comparing", on);
  const held = tools.querySelector(".ad-compare");
  if (held) held.setAttribute("aria-pressed", String(on));
  draw();
}

function compareButton() {
  const held = document.createElement("button");
  held.type = "button";
  held.className = "ad-compare";
  held.dataset.key = "compare";
  held.textContent = "Before";
  held.title = "Hold to see the photo as it was (B)";
  held.setAttribute("aria-label", "Hold to see the photo as it was (B)");
  held.setAttribute("aria-pressed", String(comparing));
  held.addEventListener("pointerdown", (event) => {
    held.setPointerCapture(event.pointerId);
    compare(true);
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) held.addEventListener(name, () => compare(false));
  held.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    compare(true);
  });
  held.addEventListener("keyup", () => compare(false));
  held.addEventListener("contextmenu", (event) => event.preventDefault());
  return held;
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest && event.target.closest("input:not([type=range]), textarea, select, [contenteditable=true]");
  if (event.key.toLowerCase() !== "b" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (state && state.mode === "edit" && root.offsetParent && !document.querySelector("dialog[open]")) compare(true);
});
document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") compare(false); });
window.addEventListener("blur", () => compare(false));
