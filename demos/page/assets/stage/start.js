// Which step somebody pressed.
function onStep(event) {
  if (!root.isConnected) document.removeEventListener("click", onStep);
  const step = event.target.closest && event.target.closest("#steps [role=tab]");
  if (step && !step.disabled) trigger("walk", { step: Number(step.dataset.tabId) });
}
document.addEventListener("click", onStep);
new ResizeObserver(layout).observe(view);
watch("value", () => show(props.value));
show(props.value);
