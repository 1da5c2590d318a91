// What the picture and the lists of a tab know together. Every action has a number, and every value of the server says
// which action it knows of (`seq`); so an answer that comes late neither moves things back nor chooses what was chosen
// before.
const desk = (window.amodalDesk ||= { seq: 0, choice: null, listeners: new Set() });
const toServer = trigger;
trigger = (name, data) => {
  if (isWorking() && ["act", "repaint", "reshape"].includes(name)) return; // what is done now would be lost to the work
  if (name === "act") {
    data = { ...data, seq: ++desk.seq };
    if (data.op === "select") desk.choice = { mode: data.mode, id: data.id, seq: desk.seq };
    else if (["remove", "clear"].includes(data.op)) desk.choice = { mode: data.mode, id: null, seq: desk.seq };
    for (const tell of desk.listeners) tell(data);
  }
  toServer(name, data);
};

const PATIENCE = 8000; // milliseconds to wait for the answer to the last action before an older one is shown
let waiting = null;

// The value to show, with the choice that the person made last; undefined where a newer one is on its way.
function newest(value, again) {
  clearTimeout(waiting);
  if (!value || !value.mode) return value;
  if (value.seq < desk.seq && again) {
    waiting = setTimeout(() => again(value), PATIENCE);
    return undefined;
  }
  const { choice } = desk;
  return isNewer(choice, value) ? { ...value, selected: choice.id } : value;
}

// Whether the server does not know of a choice yet; what it chose since, such as a copy, stays chosen otherwise.
function isNewer(choice, value) {
  return Boolean(choice && choice.seq > value.seq && choice.mode === value.mode);
}

// Long work runs: the picture and the lists stay, and take no action.
const isWorking = () => document.body.classList.contains("ad-working");
