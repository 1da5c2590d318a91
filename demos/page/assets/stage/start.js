// Which step somebody pressed. Gradio disables the steps ahead, also where somebody has been before: what has no events of
// its own (page.css) is found by its place, and the server says where one can go.
function onStep(event) {
  if (!root.isConnected) document.removeEventListener("click", onStep, true);
  if (!event.target.closest || !event.target.closest("#steps [role=tablist]")) return;
  const step = event.target.closest("[role=tab]") || [...document.querySelectorAll("#steps [role=tab]")].find((tab) => {
    const box = tab.getBoundingClientRect();
    return box.left <= event.clientX && event.clientX <= box.right && box.top <= event.clientY && event.clientY <= box.bottom;
  });
  if (step) trigger("walk", { step: Number(step.dataset.tabId) });
}
document.addEventListener("click", onStep, true); // before Gradio, which takes the tick that was pressed off the page
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
