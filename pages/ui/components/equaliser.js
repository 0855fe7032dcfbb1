// One bar a unit. The page owns the plan: bars and counts follow the hand at once, all else comes from the server.
const clamp = (x, low = 0, high = 1) => Math.min(high, Math.max(low, Math.round(x * 100) / 100));
const KEYS = { ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 };

// Colours and counts follow the hand by themselves: the server is asked for costs only, ten times a second.
const fresh = () => ({
  pace: 100,
  seq: clock(), rev: null, rates: {}, held: new Set(), waiting: 0, pending: null, settle: null,
  drag: null, hover: null, focused: null, leaving: 0, open: false, typed: [],
});

export default function ({ data, key, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".eq");
  if (!root || !data) return;
  const me = remembered(key, fresh);
  me.data = data;
  me.send = (message) => setStateValue("move", message);
  me.message = ({ phase, name }) => ({ rev: me.rev, phase, chosen: name, rates: held(me) });
  me.ask = () => setStateValue("tick", clock());
  meet(me, data.session);
  adopt(me);
  const isNew = root !== me.root;
  const signature = data.units.map((u) => u.name).join("|");
  if (isNew) mount(root, me);
  if (isNew || signature !== me.signature) build(root, me);
  me.signature = signature;
  paint(root, me);
  answered(me, data.echo);
  clearTimeout(me.tick);
  if (data.poll) me.tick = setTimeout(() => ask(me), data.poll);
  return whenGone(parentElement, () => {
    if (me.root !== root) return; // it is somewhere else by now
    clearTimeout(me.tick);
    leavePage(me);
    document.removeEventListener("click", me.leave, true);
    me.size.disconnect();
    me.root = me.drag = null;
  });
}

// The bars under a hand, and those the server has not answered for yet, keep their own rates; all others are the
// server's whenever it says that they changed. So no answer, early or late, takes back what a hand or a key did.
function adopt(me) {
  const { units, rev, echo } = me.data;
  if (!me.drag && isSettled(me, echo)) me.held.clear();
  if (me.rev === rev) return;
  me.rev = rev;
  const known = new Set(units.map((unit) => unit.name));
  me.held = new Set([...me.held].filter((name) => known.has(name)));
  me.rates = Object.fromEntries(units.map((unit) => [unit.name, me.held.has(unit.name) ? me.rates[unit.name] : unit.rate]));
}

const held = (me) => Object.fromEntries([...me.held].map((name) => [name, me.rates[name]]));

function move(root, me, name, rate, unrounded = false) {
  const { low, high } = me.data.units.find((unit) => unit.name === name);
  me.rates[name] = unrounded ? Math.min(high, Math.max(low, rate)) : clamp(rate, low, high);
  me.held.add(name);
  paintBar(root, me, me.data.units.find((unit) => unit.name === name));
  line(root, me);
  paintTable(root, me, name);
  tell(me.rates);
}

// How many filters a unit loses: the server's count at the rate it knows, at others its table of whole percents.
function countOf(me, unit) {
  const rate = me.rates[unit.name] ?? 0;
  return Math.abs(rate - unit.rate) < 1e-9 ? unit.pruned : me.data.counts[unit.kind][Math.round(rate * 100)];
}

function mount(root, me) {
  me.root = root;
  me.drag = null;
  enterPage(me);
  if (me.leave) document.removeEventListener("click", me.leave, true);
  me.leave = (event) => leave(me, event);
  document.addEventListener("click", me.leave, true);
  me.size?.disconnect();
  me.size = new ResizeObserver(() => paint(root, me));
  me.size.observe(root);
  const toggle = root.querySelector(".eq-toggle");
  toggle.onclick = () => {
    me.open = !me.open;
    paint(root, me);
  };
}

// One question at a time: one that came while the last was being answered would end that answer, and be answered late
// itself. An answer names its question, so it is always news; one that is lost is asked for again.
function ask(me) {
  if (clock() > me.leaving) me.ask();
  me.tick = setTimeout(() => ask(me), 5_000);
}

// A question that reaches the server before it has begun the page of a clicked link names the old page, and
// Streamlit goes by the newest message: the click would be lost. So none is asked once a link was followed;
// ten seconds later the bars ask again, in case they are still here.
function leave(me, event) {
  const link = event.target instanceof Element && event.target.closest("a[href]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) me.leaving = clock() + 10_000;
}

function build(root, me) {
  const bars = root.querySelector(".eq-bars");
  const focused = me.focused;
  bars.replaceChildren();
  me.nodes = new Map();
  let stage = null;
  for (const unit of me.data.units) {
    if (stage !== null && unit.stage !== stage) element("div", "eq-gap", bars);
    stage = unit.stage;
    bars.append(bar(root, me, unit.name));
  }
  buildTable(root, me);
  if (focused && [document.body, null].includes(document.activeElement)) me.nodes.get(focused)?.focus({ preventScroll: true });
}

function bar(root, me, name) {
  const unit = element("div", "eq-unit");
  unit.dataset.unit = name;
  unit.tabIndex = -1; // see rove
  unit.setAttribute("role", "slider");
  unit.setAttribute("aria-orientation", "vertical");
  unit.setAttribute("aria-valuemin", "0");
  unit.setAttribute("aria-valuemax", "100");
  const track = element("div", "eq-track", unit);
  const pruned = element("div", "eq-pruned", track);
  const heat = element("div", "eq-heat", track);
  const inside = [pruned, heat, element("div", "eq-pct", track), element("div", "eq-lock", track)];
  unit.marks = element("div", "eq-marks", track);
  const share = element("i", "", element("div", "eq-share", unit));
  unit.parts = [...inside, share, element("div", "eq-count", unit), element("div", "eq-name", unit)];
  me.nodes.set(name, unit);

  const rateAt = (y) => (me.drag.box.bottom - y) / me.drag.box.height;
  unit.onpointerdown = (event) => {
    if (event.button) return;
    unit.setPointerCapture(event.pointerId);
    unit.focus({ preventScroll: true });
    // Measured once: to ask where the bar is after every change would have the page laid out for every move.
    me.drag = { name, from: event.clientY, moved: event.target === heat, box: track.getBoundingClientRect() };
    if (me.drag.moved) unit.onpointermove(event); // a place on the strip is a rate
    else post(me, "drag", name); // its layer comes into the picture before the bar moves
  };
  unit.onpointermove = (event) => {
    if (!me.drag || me.drag.name !== name) return;
    if (!me.drag.moved && Math.abs(event.clientY - me.drag.from) < 3) return;
    me.drag.moved = true;
    move(root, me, name, rateAt(event.clientY));
    post(me, "drag", name);
  };
  unit.onpointerup = unit.onpointercancel = () => {
    if (!me.drag) return;
    me.drag = null;
    post(me, "rest", name);
  };
  unit.onpointerenter = () => { me.hover = name; line(root, me); };
  unit.onpointerleave = () => { me.hover = null; line(root, me); };
  unit.onfocus = () => { me.focused = name; rove(root, me); line(root, me); };
  // A bar that leaves the page with its focus gets it back where it is mounted again.
  unit.onblur = () => setTimeout(() => {
    if (me.settle) post(me, "rest", name);
    if (unit.isConnected && me.focused === name && root.getRootNode().activeElement !== unit) me.focused = null;
  });
  unit.onkeydown = (event) => press(root, me, name, event);
  return unit;
}

function press(root, me, name, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const nodes = [...root.querySelectorAll(".eq-unit")];
  const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const isPress = event.key === "Enter" || event.key === " ";
  if (!across && !isPress && !(event.key in KEYS)) return;
  event.preventDefault();
  event.stopPropagation();
  if (across) nodes[nodes.findIndex((node) => node.dataset.unit === name) + across]?.focus();
  else if (isPress) post(me, "rest", name);
  else {
    move(root, me, name, (me.rates[name] ?? 0) + KEYS[event.key]);
    settle(me, name);
  }
}

// The bars are one stop of the Tab key: the one last used, else the chosen one, else the first.
function rove(root, me) {
  const names = me.data.units.map((unit) => unit.name);
  const stop = [me.focused, me.data.chosen].find((name) => names.includes(name)) ?? names[0];
  for (const [name, node] of me.nodes) node.tabIndex = name === stop ? 0 : -1;
}

// A name that is too long loses its middle: beginnings tell the stage, endings the layer.
function shorten(text, most) {
  if (text.length <= most) return text;
  if (most < 3) return "";
  const end = Math.ceil((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}…${text.slice(-end)}`;
}

function paint(root, me) {
  if (root !== me.root) return;
  const { units, words } = me.data;
  const room = root.clientWidth / Math.max(1, units.length) - 2;
  me.drawn = {
    room,
    // Counts of all, where they fit, else of what is pruned alone.
    showAll: units.every((unit) => `${unit.size}/${unit.size}`.length * 6.5 < room),
    largest: Math.max(...units.map((unit) => unit.share), 1e-9),
  };
  for (const unit of units) paintBar(root, me, unit);
  root.querySelector(".eq-bars").setAttribute("aria-label", words.bars);
  rove(root, me);
  line(root, me);
  paintTable(root, me);
  tell(me.rates);
}

function paintBar(root, me, unit) {
  const node = me.nodes.get(unit.name);
  if (!node || !me.drawn) return;
  const { room, showAll, largest } = me.drawn, { words } = me.data;
  const roomy = room > 24;
  const rate = me.rates[unit.name] ?? 0;
  const count = countOf(me, unit);
  const [pruned, heat, percent, lock, share, counted, name] = node.parts;
  node.classList.toggle("chosen", unit.name === (me.drag?.name ?? me.data.chosen));
  pruned.style.height = `${rate * 100}%`;
  pruned.classList.toggle("zero", rate === 0);
  percent.textContent = roomy ? `${Math.round(rate * 100)}%` : "";
  percent.style.right = unit.heat ? "34%" : "0";
  heat.style.background = unit.heat;
  heat.hidden = !unit.heat;
  node.marks.style.backgroundImage = marked(unit.marks);
  lock.textContent = unit.locks ? "🔒" : "";
  share.style.height = `${(unit.share / largest) * 12}px`;
  counted.textContent = roomy ? (showAll ? `${count}/${unit.size}` : count) : "";
  name.textContent = roomy ? shorten(unit.label, Math.floor(room / 5.7)) : "";
  node.dataset.count = count;
  const numbers = { rate: Math.round(rate * 100), k: count, n: unit.size, share: (unit.share * 100).toFixed(1) };
  node.setAttribute("aria-label", unit.name);
  node.setAttribute("aria-valuenow", String(numbers.rate));
  node.setAttribute("aria-valuetext", fill(words.rate, numbers));
  node.title = `${unit.name}: ${fill(words.prunes, numbers)}`;
}

// A tick at every rate that is a bargain in time.
function marked(rates) {
  const ticks = rates.filter((rate) => rate > 0).map((rate) => {
    const at = (rate * 100).toFixed(2);
    return `linear-gradient(to top, transparent calc(${at}% - 1px), currentColor calc(${at}% - 1px), currentColor calc(${at}% + 1px), transparent calc(${at}% + 1px))`;
  });
  return ticks.join(", ") || "none";
}

function line(root, me) {
  const { units, words } = me.data;
  const name = me.drag?.name ?? me.hover ?? me.focused ?? me.data.chosen;
  const unit = units.find((u) => u.name === name);
  root.querySelector(".eq-hint").textContent = words.hint;
  const status = root.querySelector(".eq-status");
  status.replaceChildren();
  const toggle = root.querySelector(".eq-toggle");
  toggle.textContent = me.open ? words.table_close : words.table_open;
  toggle.setAttribute("aria-expanded", String(me.open));
  if (!unit) return;
  element("b", "", status, unit.name);
  const numbers = { k: countOf(me, unit), n: unit.size, share: (unit.share * 100).toFixed(1) };
  status.append(` ${fill(words.prunes, numbers)}`);
  if (unit.members > 1) status.append(` · ${fill(words.moves, { n: unit.members })}`);
  status.append(` · ${unit.damage || unit.agreement}`);
  if (unit.speed) status.append(` · ${unit.speed}`);
}
