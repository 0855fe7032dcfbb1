// Accuracy against the MACs cut. A hand on a point takes its plan to the bars, and rides along its line.
const SHAPES = {
  circle: circle(5.5), diamond: "M0-7L7 0L0 7L-7 0Z", square: "M-5-5H5V5H-5Z", triangle: "M0-6.5L6.5 5H-6.5Z",
  cross: "M-6-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z", ring: circle(4), times: "M-4-4L4 4M4-4L-4 4",
};
const BOX = { l: 52, r: 14, t: 8, b: 38 };
const fresh = () => ({ pace: 120, seq: Date.now(), waiting: 0, pending: null, settle: null, at: null, held: null, root: null });

export default function ({ data, key, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".al");
  if (!root || !data) return;
  const me = remembered(key, fresh);
  me.data = data;
  me.send = (message) => setStateValue("ride", message);
  me.message = ({ phase, name }) => ({ phase, number: name });
  meet(me, data.session);
  if (me.held === null && isSettled(me, data.echo)) me.at = data.current;
  if (root !== me.root) mount(root, me);
  paint(root, me);
  answered(me, data.echo);
  return whenGone(parentElement, () => {
    if (me.root !== root) return; // it is somewhere else by now
    leavePage(me);
    me.size.disconnect();
    me.root = null;
  });
}

function mount(root, me) {
  me.size?.disconnect();
  Object.assign(me, { root, held: null });
  enterPage(me);
  const svg = root.querySelector("svg.al-svg");
  svg.onpointerdown = (event) => {
    if (event.button) return;
    const found = nearest(me, event);
    if (!found) return;
    svg.setPointerCapture(event.pointerId);
    me.held = found.line;
    svg.classList.add("held");
    take(root, me, found, "drag");
  };
  svg.onpointermove = (event) => {
    if (me.held === null) return tip(root, me, nearest(me, event));
    const { x } = inside(svg, event);
    const along = me.spots.filter((spot) => spot.line === me.held);
    const found = along.reduce((best, spot) => (Math.abs(spot.x - x) < Math.abs(best.x - x) ? spot : best));
    if (found.mark.number !== me.at) take(root, me, found, "drag");
  };
  svg.onpointerup = svg.onpointercancel = () => {
    if (me.held === null) return;
    me.held = null;
    svg.classList.remove("held");
    post(me, "rest", me.at);
  };
  svg.onpointerleave = () => tip(root, me, null);
  svg.onkeydown = (event) => step(root, me, event);
  me.size = new ResizeObserver(() => { if (me.root === root) paint(root, me); });
  me.size.observe(root.querySelector(".al-plot"));
}

// Arrow keys go along the line of the plan on screen, or along the first line.
function step(root, me, event) {
  const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!by || !me.spots.length || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  event.stopPropagation();
  const now = me.spots.find((spot) => spot.mark.number === me.at);
  const along = me.spots.filter((spot) => spot.line === (now?.line ?? me.spots[0].line));
  const found = along[now ? Math.min(along.length - 1, Math.max(0, along.indexOf(now) + by)) : 0];
  if (found === now) return;
  show(root, me, found);
  settle(me, found.mark.number);
}

function take(root, me, spot, phase) {
  show(root, me, spot);
  post(me, phase, spot.mark.number);
}

function show(root, me, spot) {
  me.at = spot.mark.number;
  paint(root, me);
  tip(root, me, spot);
}

function inside(svg, event) {
  const box = svg.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function nearest(me, event, within = 24) {
  const { x, y } = inside(event.currentTarget, event);
  const far = (spot) => (spot.x - x) ** 2 + (spot.y - y) ** 2;
  const best = me.spots.reduce((found, spot) => (found && far(found) <= far(spot) ? found : spot), null);
  return best && far(best) < within ** 2 ? best : null;
}

function tip(root, me, spot) {
  const node = root.querySelector(".al-tip");
  node.hidden = !spot;
  if (!spot) return;
  node.textContent = spot.mark.label;
  const room = root.clientWidth - node.offsetWidth - 4;
  node.style.left = `${Math.max(0, Math.min(room, spot.x + 12))}px`;
  node.style.top = `${Math.max(0, spot.y - 30)}px`;
}

function paint(root, me) {
  if (root !== me.root) return;
  const svg = root.querySelector("svg.al-svg"), { lines, dense, words } = me.data;
  const [width, height] = [svg.clientWidth, svg.clientHeight];
  if (!width || !height) return;
  svg.replaceChildren();
  const marks = lines.flatMap((line) => line.marks);
  const tall = [...marks.flatMap((mark) => [mark.low, mark.high]), ...(dense === null ? [] : [dense])];
  const [y0, y1] = tall.length ? [Math.max(0, Math.min(...tall) - 2), Math.min(100, Math.max(...tall) + 2)] : [0, 100];
  const x1 = Math.max(60, ...marks.map((mark) => mark.x)) * 1.04;
  const [w, h] = [width - BOX.l - BOX.r, height - BOX.t - BOX.b];
  const x = (value) => BOX.l + (value / x1) * w, y = (value) => BOX.t + (1 - (value - y0) / (y1 - y0)) * h;
  scales(svg, { x, y, x1, y0, y1, w, h, height, words });
  if (dense !== null) {
    draw(svg, "line", { class: "dense", x1: BOX.l, x2: BOX.l + w, y1: y(dense), y2: y(dense) });
    draw(svg, "text", { class: "tick", x: BOX.l + w, y: y(dense) - 4, "text-anchor": "end" }).textContent = words.dense;
  }
  me.spots = lines.flatMap((line, number) => line.marks.map((mark) => ({ mark, line: number, x: x(mark.x), y: y(mark.y) })));
  lines.forEach((line, number) => trace(svg, line, me.spots.filter((spot) => spot.line === number), y));
  const now = me.spots.find((spot) => spot.mark.number === me.at);
  if (now) draw(svg, "circle", { class: "ring", cx: now.x, cy: now.y, r: 10 });
  svg.setAttribute("aria-label", words.label);
  svg.setAttribute("aria-valuetext", now ? now.mark.label : words.nothing);
  legend(root, me);
}

function scales(svg, { x, y, x1, y0, y1, w, h, height, words }) {
  const bottom = BOX.t + h;
  const [ys, digits] = ticksBetween(y0, y1, Math.max(2, h / 60));
  for (const value of ys) {
    draw(svg, "line", { class: "grid", x1: BOX.l, x2: BOX.l + w, y1: y(value), y2: y(value) });
    draw(svg, "text", { class: "tick", x: BOX.l - 6, y: y(value) + 4, "text-anchor": "end" }).textContent = value.toFixed(digits);
  }
  for (const value of ticksBetween(0, x1, Math.max(2, w / 90))[0]) {
    draw(svg, "text", { class: "tick", x: x(value), y: bottom + 15, "text-anchor": "middle" }).textContent = value;
  }
  draw(svg, "text", { class: "title", x: BOX.l + w / 2, y: height - 5, "text-anchor": "middle" }).textContent = words.x;
  draw(svg, "text", { class: "title", "text-anchor": "middle", transform: `translate(12 ${BOX.t + h / 2}) rotate(-90)` }).textContent = words.y;
}

function trace(svg, line, spots, y) {
  if (line.joined && spots.length > 1) {
    draw(svg, "path", { class: "joined", stroke: line.colour, d: `M${spots.map((spot) => `${spot.x} ${spot.y}`).join("L")}` });
  }
  for (const spot of spots) {
    draw(svg, "line", { class: "whisker", stroke: line.colour, x1: spot.x, x2: spot.x, y1: y(spot.mark.low), y2: y(spot.mark.high) });
    mark(svg, line, spot);
  }
}

function mark(svg, line, spot) {
  const paintIt = line.joined ? { class: "mark", fill: line.colour } : { class: "lone", stroke: line.colour };
  const node = draw(svg, "path", { d: SHAPES[line.symbol], ...paintIt });
  at(node, [spot.x, spot.y]);
  return node;
}

function legend(root, me) {
  const place = root.querySelector(".al-legend");
  place.replaceChildren();
  for (const line of me.data.lines) {
    const item = element("span", "", place);
    const svg = draw(item, "svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    mark(svg, line, { x: 0, y: 0 });
    item.append(line.title);
  }
}
