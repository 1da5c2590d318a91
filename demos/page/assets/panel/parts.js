// The list of objects with what can be done to the chosen one. All files of this folder run as one `js_on_load` of a
// gr.HTML, in the order that assets/__init__.py says; `props.value` is what view/panel.py returns.
const root = element.querySelector(".ad-panel");

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

// What has the focus has it again when the list is made anew, by its `data-key`.
function keyed(node, key) {
  node.dataset.key = key;
  return node;
}

function button(label, title, data, disabled = false) {
  const node = keyed(make("button", { type: "button", textContent: label, title, disabled }), title);
  node.setAttribute("aria-label", title);
  node.addEventListener("click", () => trigger("act", { mode: props.value.mode, ...data }));
  return node;
}

function field(label, value, options, commit) {
  const input = keyed(make("input", { value, ...options }), label);
  input.setAttribute("aria-label", label);
  let sent = String(value);
  const done = () => {
    if (input.value === "") input.value = sent; // nobody meant nothing
    if (input.value === sent) return;
    sent = input.value;
    commit(input.value);
  };
  input.addEventListener("change", done);
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") done(); });
  return make("label", { className: "ad-field" }, make("span", { textContent: label }), input);
}
