// A question before something is lost, or is offered again. `props.value` is what wiring.ask returns.
const box = element.querySelector("dialog");
let asked = null;

function answer(yes) {
  if (!asked) return;
  const { number } = asked;
  asked = null;
  box.close();
  trigger("answer", { yes, number });
}

function button(label, yes) {
  const node = document.createElement("button");
  node.type = "button";
  node.textContent = label;
  if (yes) node.className = "primary";
  node.addEventListener("click", () => answer(yes));
  return node;
}

box.addEventListener("cancel", (event) => {
  event.preventDefault();
  answer(null); // closed, which is no answer
});

function show(value) {
  if (!value || !value.title) {
    asked = null;
    if (box.open) box.close();
    return;
  }
  asked = value;
  box.querySelector("h2").textContent = value.title;
  box.querySelector("p").textContent = value.text;
  box.querySelector("div").replaceChildren(button(value.no, false), button(value.yes, true));
  if (!box.open) box.showModal();
  box.querySelector(value.no === "Discard" ? "button.primary" : "button").focus();
}

watch("value", () => show(props.value));
show(props.value);
