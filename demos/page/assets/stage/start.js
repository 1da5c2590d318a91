// Which step somebody pressed.
function onStep(event) {
  if (!root.isConnected) document.removeEventListener("click", onStep);
  const step = event.target.closest && event.target.closest("#steps [role=tab]");
  if (step && !step.disabled) trigger("walk", { step: Number(step.dataset.tabId) });
}
document.addEventListener("click", onStep);
// Nothing is pressed before the server knows this page; after a while it is, whatever has happened.
window.amodalOpen = () => document.body.classList.add("ad-open");
setTimeout(window.amodalOpen, 15000);

// What has the focus is not scrolled under the picture, which stays on the screen of a phone, nor under "Complete".
function padScroll() {
  const column = root.closest("#stage-column");
  const above = column && window.matchMedia("(max-width: 640px)").matches ? column.offsetHeight + 8 : 0;
  document.documentElement.style.scrollPadding = `${above}px 0 84px`;
}
new ResizeObserver(() => { layout(); padScroll(); }).observe(view);
new ResizeObserver(padScroll).observe(root);
watch("value", () => show(props.value));
show(props.value);
