// Filters as points. The hand moves them at once; what is known of them (median, medoid, cuts) comes from the server.
const instances = new WeakMap();
const circle = (r) => `M${-r} 0A${r} ${r} 0 1 0 ${r} 0A${r} ${r} 0 1 0 ${-r} 0Z`;
const STAR = "M0-11L2.8-3.9L10.5-3.4L4.6 1.5L6.5 8.9L0 4.8L-6.5 8.9L-4.6 1.5L-10.5-3.4L-2.8-3.9Z";
const CROSS = "M-1.5-7H1.5V-1.5H7V1.5H1.5V7H-1.5V1.5H-7V-1.5H-1.5Z";
const EX = "M-5-2.9L-2.9-5L0-2.1L2.9-5L5-2.9L2.1 0L5 2.9L2.9 5L0 2.1L-2.9 5L-5 2.9L-2.1 0Z";
const BODY = circle(11);
// By word: its path about (0, 0), and how far that reaches. Drawn alike on the plane and in the legend.
const SHAPES = {
  median: [STAR, 13],
  mean: [CROSS, 12],
  medoid: [circle(15) + circle(18), 19],
  yours: [circle(12), 16],
  norm: ["M0-6L6 0L0 6L-6 0Z", 10],
  fpgm: [EX, 9],
};
const STEPS = { ArrowRight: [0.1, 0], ArrowLeft: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pl");
  if (!root || !data) return;
  let me = instances.get(parentElement);
  if (!me) {
    me = { seq: clock(), rev: null, points: [], marked: [], waiting: 0, pending: null, drag: null, dragged: false };
    instances.set(parentElement, me);
  }
  me.data = data;
  me.send = (message) => setStateValue("move", message);
  me.message = ({ phase }) => ({ points: me.points.map((point) => [...point]), marked: [...me.marked], phase });
  if (me.rev !== data.rev && !me.drag) {
    me.rev = data.rev;
    me.points = data.points.map((point) => [...point]);
    me.marked = [...data.marked];
    me.pending = null;
    clearTimeout(me.settle);
    if (me.waiting > data.echo) post(me, "rest"); // the old points are still under way, and would undo these
  }
  const board = root.querySelector(".pl-plane");
  board.setAttribute("aria-label", data.words.label);
  board.ondblclick = (event) => {
    if (!event.target.closest(".pl-point")) add(root, me, place(root, me, event));
  };
  ground(root, me);
  legend(root, me);
  paint(root, me);
  answered(me, data.echo);
  return whenGone(parentElement, () => {
    clearTimeout(me.settle);
    instances.delete(parentElement);
  });
}

function draw(parent, tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

const shape = (parent, name, attributes = {}) => draw(parent, "path", { class: `pl-${name}`, d: SHAPES[name][0], ...attributes });
const percent = (me, [x, y]) => [50 + (50 * x) / me.data.extent, 50 - (50 * y) / me.data.extent].map((part) => `${part}%`);
const radius = (me, r) => `${(50 * r) / me.data.extent}%`;
const clamp = (me, x) => Math.min(me.data.extent, Math.max(-me.data.extent, Math.round(x * 100) / 100));

// A frame of its own for what stands at a place: places are shares of the plane, shapes are pixels.
function stand(node, me, point) {
  const [x, y] = percent(me, point);
  node.setAttribute("x", x);
  node.setAttribute("y", y);
}

function place(root, me, event) {
  const box = root.querySelector(".pl-plane").getBoundingClientRect();
  const extent = me.data.extent;
  return [((event.clientX - box.left) / box.width) * 2 * extent - extent, extent - ((event.clientY - box.top) / box.height) * 2 * extent];
}

function add(root, me, point) {
  if (me.points.length >= me.data.most) return;
  me.points.push(point.map((x) => clamp(me, x)));
  paint(root, me);
  focus(root, me.points.length - 1);
  post(me, "rest");
}

function remove(root, me, index) {
  if (me.points.length <= me.data.least) return;
  me.points.splice(index, 1);
  me.marked = me.marked.filter((other) => other !== index).map((other) => (other > index ? other - 1 : other));
  paint(root, me);
  focus(root, Math.min(index, me.points.length - 1));
  post(me, "rest");
}

function toggle(root, me, index) {
  if (me.marked.includes(index)) me.marked = me.marked.filter((other) => other !== index);
  else me.marked = [...me.marked, index].slice(-me.data.marks);
  paint(root, me);
  post(me, "rest");
}

function focus(root, index) {
  root.querySelectorAll(".pl-point")[index].focus({ preventScroll: true });
}

function pointAt(root, me, index) {
  const node = draw(root.querySelector(".pl-points"), "svg", { class: "pl-at pl-point", width: 1, height: 1, tabindex: 0, role: "button" });
  draw(node, "path", { class: "pl-focus", d: circle(21) });
  draw(node, "path", { class: "pl-body", d: BODY });
  shape(node, "yours");
  shape(node, "medoid");
  draw(node, "text", {}).textContent = index;
  shape(node, "norm", { transform: "translate(-10 -10)" });
  shape(node, "fpgm", { transform: "translate(10 -10)" });

  node.onpointerdown = (event) => {
    if (event.button) return;
    node.setPointerCapture(event.pointerId);
    node.focus({ preventScroll: true });
    const [x, y] = place(root, me, event);
    me.drag = { index, from: [event.clientX, event.clientY], grip: [me.points[index][0] - x, me.points[index][1] - y] };
    me.dragged = false;
  };
  node.onpointermove = (event) => {
    if (me.drag?.index !== index) return;
    const { from, grip } = me.drag;
    if (!me.dragged && Math.hypot(event.clientX - from[0], event.clientY - from[1]) < 3) return;
    me.dragged = true;
    me.points[index] = place(root, me, event).map((x, axis) => clamp(me, x + grip[axis]));
    paint(root, me);
    post(me, "drag");
  };
  node.onpointerup = node.onpointercancel = () => {
    if (!me.drag) return;
    me.drag = null;
    if (me.dragged) post(me, "rest");
  };
  // The click that ends a drag marks nothing, nor does the second of a double one.
  node.onclick = (event) => {
    if (!me.dragged && event.detail < 2) toggle(root, me, index);
    me.dragged = false;
  };
  node.onkeydown = (event) => key(root, me, index, event);
}

function key(root, me, index, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const marks = event.key === "Enter" || event.key === " ";
  const removes = event.key === "Delete" || event.key === "Backspace";
  if (!marks && !removes && !(event.key in STEPS)) return;
  event.preventDefault();
  event.stopPropagation(); // the page turns over at arrow keys
  if (me.drag) return;
  if (event.key in STEPS) {
    const far = event.shiftKey ? 5 : 1;
    me.points[index] = me.points[index].map((x, axis) => clamp(me, x + far * STEPS[event.key][axis]));
    paint(root, me);
    settle(me);
  } else if (!event.repeat) {
    if (marks) toggle(root, me, index);
    else remove(root, me, index);
  }
}

function ground(root, me) {
  const { rings, cut } = me.data;
  const group = root.querySelector(".pl-rings");
  group.replaceChildren();
  for (const ring of rings) draw(group, "circle", { cx: "50%", cy: "50%", r: radius(me, ring) });
  root.querySelector(".pl-cut").setAttribute("r", radius(me, cut ?? 0));
}

function legend(root, me) {
  const { words, revealed } = me.data;
  root.querySelector(".pl-hint").textContent = words.hint;
  const line = root.querySelector(".pl-legend");
  line.replaceChildren();
  for (const name of Object.keys(SHAPES)) {
    if (!revealed && (name === "norm" || name === "fpgm")) continue;
    const entry = document.createElement("span");
    const reach = SHAPES[name][1];
    const icon = draw(entry, "svg", { viewBox: `${-reach} ${-reach} ${2 * reach} ${2 * reach}`, "aria-hidden": "true" });
    if (name === "medoid" || name === "yours") draw(icon, "path", { class: "pl-body", d: BODY });
    shape(icon, name);
    entry.append(words[name]);
    line.append(entry);
  }
}

function paint(root, me) {
  const { words, revealed, median, mean } = me.data;
  const group = root.querySelector(".pl-points");
  while (group.children.length > me.points.length) group.lastElementChild.remove();
  while (group.children.length < me.points.length) pointAt(root, me, group.children.length);
  const known = me.data.points.length === me.points.length; // else the server has not heard of the newest yet
  me.points.forEach((point, index) => {
    const node = group.children[index];
    const is = {
      medoid: known && me.data.medoid === index,
      norm: known && revealed && me.data.by_norm.includes(index),
      fpgm: known && revealed && me.data.by_distance.includes(index),
      yours: me.marked.includes(index),
    };
    stand(node, me, point);
    for (const name in is) node.querySelector(`.pl-${name}`).style.display = is[name] ? "" : "none";
    const [x, y] = point.map((part) => part.toFixed(2));
    node.setAttribute("aria-label", words.point.replace("{n}", index).replace("{x}", x).replace("{y}", y));
    node.setAttribute("aria-description", ["medoid", "norm", "fpgm"].filter((name) => is[name]).map((name) => words[name]).join(", "));
    node.setAttribute("aria-pressed", String(is.yours));
  });
  const line = root.querySelector(".pl-near");
  const [[x1, y1], [x2, y2]] = [percent(me, median), percent(me, known ? me.points[me.data.nearest] : median)];
  for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(name, value);
  const centres = root.querySelector(".pl-centres");
  for (const [name, point] of [["mean", mean], ["median", median]]) {
    const at = centres.querySelector(`.pl-${name}`)?.parentElement ?? draw(centres, "svg", { class: "pl-at", width: 1, height: 1 });
    stand(at, me, point);
    if (!at.firstChild) shape(at, name);
  }
}
