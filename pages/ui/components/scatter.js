// One chart: N filters as SVG points that are placed once and then only change their class. Nothing here knows the plan.
const NS = "http://www.w3.org/2000/svg";
const STAR = "M0-11L2.8-3.9L10.5-3.4L4.6 1.5L6.5 8.9L0 4.8L-6.5 8.9L-4.6 1.5L-10.5-3.4L-2.8-3.9Z";
const circle = (r) => `M${-r} 0A${r} ${r} 0 1 0 ${r} 0A${r} ${r} 0 1 0 ${-r} 0Z`;
const cross = (r) => {
  const [a, b] = [r, r * 0.42];
  return `M${-a} ${b - a}L${b - a} ${-a}L0 ${-b}L${a - b} ${-a}L${a} ${b - a}L${b} 0L${a} ${a - b}L${a - b} ${a}L0 ${b}L${b - a} ${a}L${-a} ${a - b}L${-b} 0Z`;
};
const PRUNED = 1, RIVAL = 2;

function draw(parent, tag, attributes = {}) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

function newChart(parent) {
  const svg = draw(parent, "svg", { class: "chart", role: "img" });
  const chart = { svg, nodes: [], shown: [], zoom: { k: 1, x: 0, y: 0 }, placed: [] };
  for (const layer of ["axes", "lines", "cuts", "points", "top", "words"]) chart[layer] = draw(svg, "g", { class: `chart-${layer}` });
  chart.path = draw(chart.lines, "path", { class: "near" });
  chart.pair = draw(chart.lines, "path", { class: "pair" });
  chart.rings = { chosen: draw(chart.top, "path", { class: "ring chosen" }), twin: draw(chart.top, "path", { class: "ring twin" }) };
  chart.names = { chosen: draw(chart.top, "text", { class: "name" }), twin: draw(chart.top, "text", { class: "name" }) };
  return chart;
}

const at = (node, [x, y]) => { node.style.transform = `translate(${x.toFixed(2)}px, ${y.toFixed(2)}px)`; };
const radiusFor = (count) => (count > 600 ? 3 : count > 200 ? 4 : 5.2);

function points(chart, count) {
  if (chart.nodes.length === count) return;
  chart.svg.classList.toggle("many", count > 200);
  chart.points.replaceChildren();
  chart.radius = radiusFor(count);
  chart.shown = [];
  chart.nodes = Array.from({ length: count }, () => {
    const node = draw(chart.points, "g", { class: "pt" });
    draw(node, "path", { class: "body" });
    draw(node, "path", { class: "rim", d: circle(chart.radius + 2.1) });
    return node;
  });
}

// Where the panel's numbers lie on the screen: linear or logarithmic, one scale for both axes where it is square.
function scaleOf(panel, width, height, zoom) {
  const ys = panel.log ? panel.y.map(Math.log10) : panel.y;
  const ticks = panel.x_title !== "";
  const box = ticks ? { l: 52, r: 10, t: 8, b: 38 } : { l: 8, r: 8, t: 8, b: 8 };
  const [w, h] = [Math.max(20, width - box.l - box.r), Math.max(20, height - box.t - box.b)];
  const extent = (values, extra) => {
    const all = [...values, ...extra].filter(Number.isFinite);
    return all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
  };
  const far = panel.rings.length ? Math.max(...panel.rings) : null;
  const others = panel.others;
  let [x0, x1] = far ? [-far, far] : extent([...panel.x, ...others.map((o) => o[0])], panel.median ? [panel.median[0]] : []);
  let [y0, y1] = far ? [-far, far] : extent([...ys, ...others.map((o) => o[1]), ...panel.marks.map((m) => m[0])], panel.median ? [panel.median[1]] : []);
  const wider = (low, high, share = 0.05) => { const pad = (high - low || Math.abs(high) || 1) * share; return [low - pad, high + pad]; };
  [x0, x1] = wider(x0, x1);
  [y0, y1] = wider(y0, y1);
  if (panel.square) {
    const unit = Math.max((x1 - x0) / w, (y1 - y0) / h);
    [x0, x1] = [(x0 + x1 - unit * w) / 2, (x0 + x1 + unit * w) / 2];
    [y0, y1] = [(y0 + y1 - unit * h) / 2, (y0 + y1 + unit * h) / 2];
  }
  const [cx, cy] = [box.l + w / 2, box.t + h / 2];
  const x = (value) => (box.l + ((value - x0) / (x1 - x0)) * w - cx) * zoom.k + cx + zoom.x;
  const rawY = (value) => (box.t + (1 - (value - y0) / (y1 - y0)) * h - cy) * zoom.k + cy + zoom.y;
  const backX = (px) => x0 + (((px - zoom.x - cx) / zoom.k + cx - box.l) / w) * (x1 - x0);
  const backY = (py) => y0 + (1 - ((py - zoom.y - cy) / zoom.k + cy - box.t) / h) * (y1 - y0);
  return { x, y: (value) => rawY(panel.log ? Math.log10(value) : value), rawY, backX, backY, box, w, h, ticks, length: (v) => Math.abs(x(v) - x(0)) };
}

function ticksBetween(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function place(chart, panel, width, height) {
  chart.panel = panel;
  chart.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.svg.setAttribute("width", width);
  chart.svg.setAttribute("height", height);
  const scale = (chart.scale = scaleOf(panel, width, height, chart.zoom));
  points(chart, panel.x.length);
  chart.places = panel.x.map((x, i) => [scale.x(x), scale.y(panel.y[i])]);
  chart.places.forEach((spot, i) => at(chart.nodes[i], spot));
  axes(chart, width, height);
  chart.words.replaceChildren();
  if (panel.note) draw(chart.words, "text", { class: "note", x: scale.box.l + 4, y: scale.box.t + 12 }).textContent = panel.note;
  chart.star?.remove();
  chart.star = null;
  if (panel.median) {
    const centre = [scale.x(panel.median[0]), scale.y(panel.median[1])];
    chart.star = draw(chart.top, "path", { class: "star", d: STAR });
    at(chart.star, centre);
    for (const i of panel.ties) draw(chart.words, "path", { class: "tie", d: `M${centre.join(" ")}L${chart.places[i].join(" ")}` });
  }
}

function axes(chart, width, height) {
  const { axes: group, panel, scale } = chart;
  const { box, w, h } = scale;
  group.replaceChildren();
  for (const radius of panel.rings) draw(group, "circle", { class: "grid", cx: scale.x(0), cy: scale.rawY(0), r: scale.length(radius) });
  if (!scale.ticks) return;
  const bottom = box.t + h, left = box.l;
  const [xs, xDigits] = ticksBetween(scale.backX(left), scale.backX(left + w), Math.max(2, w / 90));
  for (const value of xs) draw(group, "text", { class: "tick", x: scale.x(value), y: bottom + 14, "text-anchor": "middle" }).textContent = value.toFixed(xDigits);
  const [ys, yDigits] = ticksBetween(scale.backY(bottom), scale.backY(box.t), Math.max(2, h / 60));
  for (const value of ys) {
    if (panel.log && !Number.isInteger(value)) continue;
    const y = scale.rawY(value);
    draw(group, "line", { class: "grid", x1: left, x2: left + w, y1: y, y2: y });
    draw(group, "text", { class: "tick", x: left - 5, y: y + 3.5, "text-anchor": "end" }).textContent = panel.log ? `1e${value}` : value.toFixed(yDigits);
  }
  draw(group, "text", { class: "title", x: left + w / 2, y: height - 6, "text-anchor": "middle" }).textContent = panel.x_title;
  draw(group, "text", { class: "title", "text-anchor": "middle", transform: `translate(11 ${box.t + h / 2}) rotate(-90)` }).textContent = panel.y_title;
  for (const [value, text] of panel.marks) {
    draw(group, "line", { class: "mark", x1: left, x2: left + w, y1: scale.rawY(value), y2: scale.rawY(value) });
    draw(group, "text", { class: "tick", x: left + w - 4, y: scale.rawY(value) - 4, "text-anchor": "end" }).textContent = text;
  }
  panel.others.forEach(([x, y, name], i) => {
    const dot = draw(group, "circle", { class: i === panel.here ? "other here" : "other", cx: scale.x(x), cy: scale.rawY(y), r: i === panel.here ? 7 : 4 });
    draw(dot, "title").textContent = name;
  });
}

// What a frame of a drag costs: the class and the shape of the points whose state changed.
function colour(chart, states, locked) {
  const { nodes, shown, radius } = chart;
  for (let i = 0; i < nodes.length; i += 1) {
    const state = states[i] + (locked.has(i) ? 4 : 0);
    if (shown[i] === state) continue;
    shown[i] = state;
    const node = nodes[i];
    node.setAttribute("class", `pt ${state & PRUNED ? "pruned" : "kept"}${state & RIVAL ? " rival" : ""}${state & 4 ? " locked" : ""}`);
    node.firstChild.setAttribute("d", state & PRUNED ? cross(radius + 0.6) : circle(radius));
  }
}

function ringed(chart, chosen, twin) {
  for (const [name, index] of Object.entries({ chosen, twin })) {
    const spot = index === null ? null : chart.places[index] ?? null;
    chart.rings[name].style.display = chart.names[name].style.display = spot ? "" : "none";
    if (!spot) continue;
    chart.rings[name].setAttribute("d", circle(chart.radius + 6));
    at(chart.rings[name], spot);
    at(chart.names[name], [spot[0] + chart.radius + 8, spot[1] - chart.radius - 4]);
    chart.names[name].textContent = index;
  }
  const [a, b] = [chart.places[chosen], twin === null ? null : chart.places[twin]];
  chart.pair.setAttribute("d", a && b ? `M${a.join(" ")}L${b.join(" ")}` : "");
}

function joined(chart, pairs) {
  if (!chart.nodes.length) pairs = [];
  chart.path.setAttribute("d", pairs.map(([i, j]) => `M${chart.places[i].map((v) => v.toFixed(1)).join(" ")}L${chart.places[j].map((v) => v.toFixed(1)).join(" ")}`).join(""));
}

// A line where the criterion cut, only where it did: all that is pruned on one side of it and all that is kept on the other.
function cut(chart, axis, whose, gone, text) {
  const values = chart.panel[axis];
  let [below, above] = [-Infinity, Infinity];
  values.forEach((value, i) => { if (gone(i)) below = Math.max(below, value); else above = Math.min(above, value); });
  if (!Number.isFinite(below) || !Number.isFinite(above) || below > above) return false;
  const { scale } = chart, { box, w, h } = scale;
  const middle = scale[axis]((below + above) / 2);
  const ends = axis === "x" ? { x1: middle, x2: middle, y1: box.t, y2: box.t + h } : { x1: box.l, x2: box.l + w, y1: middle, y2: middle };
  draw(chart.cuts, "line", { class: `cut ${whose}`, ...ends });
  const spot = axis === "x" ? { x: middle + 5, y: box.t + 11 } : { x: box.l + w - 4, y: middle + 13, "text-anchor": "end" };
  draw(chart.cuts, "text", { class: "tick", ...spot }).textContent = text;
  return true;
}

function nearestTo(chart, x, y, within = 16) {
  let [best, found] = [within ** 2, null];
  chart.places.forEach(([px, py], i) => {
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < best) [best, found] = [distance, i];
  });
  return found;
}

