// Marking objects: outline, brush, eraser, choosing, clicks.
let tool = "outline";
let brush = 24;
let corners = []; // of an outline that is set point by point

const TOOLS = {
  outline: ["Outline", "Draw around an object, or click point by point; the first point, Enter or a double click closes it."],
  brush: ["Brush", "Paint over an object. With an object chosen the brush adds to it, otherwise it starts a new one."],
  erase: ["Eraser", "Take pixels away from the chosen object."],
  select: ["Choose", "Click an object to choose it."],
  pick: ["Click", "Click an object: the segmenter outlines it."],
};

function tinted(value) {
  const sheet = new OffscreenCanvas(value.width, value.height);
  const pen = sheet.getContext("2d");
  const data = pen.createImageData(value.width, value.height);
  const { codes } = value;
  const w = value.width;
  const colours = value.objects.map((item) => item.rgb);
  const chosen = value.objects.findIndex((item) => item.id === value.selected) + 1;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (!code) continue;
    const rgb = colours[code - 1];
    const edge = codes[i + 1] !== code || codes[i - 1] !== code || codes[i + w] !== code || codes[i - w] !== code;
    data.data.set([rgb[0], rgb[1], rgb[2], edge ? 255 : code === chosen ? 150 : 95], 4 * i);
  }
  pen.putImageData(data, 0, 0);
  return sheet;
}

function drawStroke() {
  ctx.lineCap = ctx.lineJoin = "round";
  if (gesture && gesture.kind === "line" && gesture.points.length > 1) {
    path(gesture.points, false);
    if (tool === "outline") {
      lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    } else {
      ctx.lineWidth = brush;
      ctx.strokeStyle = tool === "erase" ? "rgba(220,38,38,.55)" : "rgba(29,78,216,.55)";
      ctx.stroke();
    }
  }
  if (corners.length) {
    path(pointer ? [...corners, pointer] : corners, false);
    lines(2, [[2, "rgba(255,255,255,.9)"], [0, "#1d4ed8"]]);
    corners.forEach(([x, y], index) => dot(x, y, index ? 3.5 : 6, "#fff"));
  }
  if ((tool === "brush" || tool === "erase") && pointer) {
    ctx.beginPath();
    ctx.arc(pointer[0], pointer[1], brush / 2, 0, 2 * Math.PI);
    lines(1.2, [[1.4, "rgba(0,0,0,.7)"], [0, "#fff"]]);
  }
}

function endLine(done) {
  if (tool === "outline" && !done.moved) {
    const point = done.points[0];
    if (corners.length > 2 && near(point, corners[0], 12)) closeOutline();
    else if (!corners.length || !near(point, corners[corners.length - 1], 3)) corners.push(point);
    return;
  }
  corners = [];
  const points = done.points.map(([x, y]) => [Math.round(10 * x) / 10, Math.round(10 * y) / 10]);
  send({ mode: "mark", op: "stroke", kind: tool, points, width: brush, id: state.selected });
}

function closeOutline() {
  if (!state || state.mode !== "mark" || corners.length < 3) return;
  const points = corners;
  corners = [];
  send({ mode: "mark", op: "stroke", kind: "outline", points });
  draw();
}

function buildTools() {
  tools.replaceChildren();
  hint.textContent = "";
  if (!state) return;
  if (state.mode === "mark") {
    for (const [name, [label]] of Object.entries(TOOLS)) {
      if (name === "pick" && !state.canPick) continue;
      tools.append(toolButton(name, label));
    }
    const size = document.createElement("label");
    size.className = "ad-size";
    size.append("Brush size");
    const range = Object.assign(document.createElement("input"), { type: "range", min: 4, max: 120, value: brush });
    range.addEventListener("input", () => { brush = Number(range.value); draw(); });
    size.append(range);
    size.hidden = tool !== "brush" && tool !== "erase";
    tools.append(size);
    hint.textContent = TOOLS[tool][1];
  } else {
    const title = document.createElement("span");
    title.className = "ad-title";
    title.textContent = state.title || "";
    tools.append(title);
    hint.textContent = state.hint || "";
  }
  const size = document.createElement("span");
  size.className = "ad-dims";
  size.textContent = state.dims || "";
  tools.append(size);
}

function toolButton(name, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.setAttribute("aria-pressed", String(tool === name));
  button.addEventListener("click", () => {
    tool = name;
    corners = [];
    buildTools();
    draw();
  });
  return button;
}
