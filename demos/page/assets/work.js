// The bar of long work: what it is at, how far it is, and a button that cancels it. `props.value` is what
// wiring.work_value returns, or nothing.
const bar = element.querySelector(".ad-work");
const [words, fill] = [bar.querySelector(".ad-work-words"), bar.querySelector(".ad-work-fill")];
const cancel = bar.querySelector("button");
cancel.addEventListener("click", () => {
  cancel.disabled = true;
  words.textContent = "Cancelling …";
  trigger("cancel", {});
});

function show(value) {
  const works = Boolean(value && value.text);
  document.body.classList.toggle("ad-working", works);
  bar.hidden = !works;
  if (!works) {
    cancel.disabled = false;
    return;
  }
  if (!cancel.disabled) words.textContent = value.share ? `${value.text} … ${Math.round(100 * value.share)}%` : `${value.text} …`;
  bar.setAttribute("aria-valuenow", Math.round(100 * (value.share || 0)));
  fill.style.width = `${100 * (value.share || 0)}%`;
  bar.classList.toggle("waits", !value.share);
}

watch("value", () => show(props.value));
show(props.value);
