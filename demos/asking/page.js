// What the pages that ask people share: one view of several canvases, and asking the server.
const $ = (id) => document.getElementById(id);

function load(url) {
  return new Promise((done, fail) => {
    const picture = new Image();
    picture.onload = () => done(picture); picture.onerror = () => fail(new Error("no picture at " + url));
    picture.src = url;
  });
}

/** Canvases that are zoomed and moved together; `paint(brush, index)` draws in pixels of the picture. */
class Viewer {
  constructor(canvases, paint) {
    this.canvases = canvases; this.paint = paint; this.view = { x: 0, y: 0, scale: 1 };
    for (const canvas of canvases) this.follow(canvas);
    window.addEventListener("resize", () => this.draw());
  }
  draw() {
    const ratio = window.devicePixelRatio || 1, { x, y, scale } = this.view;
    this.canvases.forEach((canvas, index) => {
      const box = canvas.getBoundingClientRect(), brush = canvas.getContext("2d");
      canvas.width = box.width * ratio; canvas.height = box.height * ratio;
      brush.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
      brush.imageSmoothingEnabled = scale < 3;
      this.paint(brush, index);
    });
  }
  frame(x, y, width, height) {
    const box = this.canvases[0].getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height) * 0.96;
    this.view = { x: box.width / 2 - (x + width / 2) * scale, y: box.height / 2 - (y + height / 2) * scale, scale };
    this.draw();
  }
  follow(canvas) {
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const factor = Math.exp(-event.deltaY / 400), box = canvas.getBoundingClientRect(), view = this.view;
      const x = event.clientX - box.left, y = event.clientY - box.top;
      this.view = { scale: view.scale * factor, x: x - (x - view.x) * factor, y: y - (y - view.y) * factor };
      this.draw();
    }, { passive: false });
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = [event.clientX - this.view.x, event.clientY - this.view.y];
    });
    window.addEventListener("pointermove", (event) => {
      if (!drag) return;
      this.view = { ...this.view, x: event.clientX - drag[0], y: event.clientY - drag[1] };
      this.draw();
    });
    window.addEventListener("pointerup", () => { drag = null; });
  }
}

/** Asks the server for one thing at a time, in the name of a person; `more()` is sent along, `show(state)` shows. */
class Asker {
  constructor(more, show) { this.more = more; this.show = show; this.person = ""; this.busy = false; }
  async ask(path, content) {
    if (this.busy) return;
    this.busy = true; $("error").textContent = "";
    try {
      const options = content ? { method: "POST", headers: { "Content-Type": "application/json" },
                                  body: JSON.stringify(content) } : {};
      const reply = await fetch(path, options), state = await reply.json();
      if (state.error) throw new Error(state.error);
      $("bar").max = Math.max(state.total, 1); $("bar").value = state.done;
      $("count").textContent = `${state.done} of ${state.total}`;
      await this.show(state);
    } catch (error) {  // a TypeError is how fetch says that nobody answers
      const gone = "The server does not answer; the last answer was not kept.";
      $("error").textContent = error instanceof TypeError ? gone : error.message;
    }
    this.busy = false;
  }
  send(path, content) { return this.ask(path, { person: this.person, ...this.more(), ...content }); }
  undo() { if (this.person) this.send("/undo", {}); }
  /** The form that starts, the button and key that take back, and the other keys. */
  listen(keys) {
    $("who").addEventListener("submit", (event) => {
      event.preventDefault();
      this.person = $("person").value.trim(); $("person").blur();
      if (this.person) this.ask("/next?" + new URLSearchParams({ person: this.person, ...this.more() }));
    });
    $("undo").onclick = () => this.undo();
    const all = { ...keys, u: () => this.undo() };
    document.addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
      const run = all[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (run) { event.preventDefault(); if (!event.repeat) run(); }
    });
  }
}
