// One bar a unit. The page owns the plan: bars follow the hand at once, numbers come from the server.
const instances = new WeakMap();
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const clamp = (x) => Math.min(1, Math.max(0, Math.round(x * 100) / 100));

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".eq");
  if (!root || !data) return;
  let me = instances.get(parentElement);
  if (!me) {
    me = { seq: Date.now(), rev: null, rates: {}, signature: null, waiting: 0, pending: null, drag: null, hover: null, leaving: 0 };
    instances.set(parentElement, me);
    me.leave = (event) => leave(me, event);
    document.addEventListener("click", me.leave, true);
  }
  me.data = data;
  me.send = (message) => setStateValue("move", message);
  me.message = ({ phase, name }) => ({ rev: me.rev, phase, chosen: name, rates: { ...me.rates } });
  if (me.rev !== data.rev && !me.drag) {
    me.rev = data.rev;
    for (const unit of data.units) me.rates[unit.name] = unit.rate;
  }
  const signature = data.units.map((u) => u.name).join("|");
  if (signature !== me.signature) {
    me.signature = signature;
    build(root, me);
  }
  paint(root, me);
  answered(me, data.echo);
  me.ask = () => setStateValue("tick", Date.now());
  clearTimeout(me.tick);
  if (data.poll) me.tick = setTimeout(() => ask(me), data.poll);
  return whenGone(parentElement, () => {
    clearTimeout(me.tick);
    clearTimeout(me.settle);
    document.removeEventListener("click", me.leave, true);
    instances.delete(parentElement);
  });
}

// One question at a time: one that came while the last was being answered would end that answer, and be answered late
// itself. An answer names its question, so it is always news; one that is lost is asked for again.
function ask(me) {
  if (Date.now() > me.leaving) me.ask();
  me.tick = setTimeout(() => ask(me), 5_000);
}

// A question that reaches the server before it has begun the page of a clicked link names the old page, and
// Streamlit goes by the newest message: the click would be lost. So none is asked once a link was followed;
// ten seconds later the bars ask again, in case they are still here.
function leave(me, event) {
  const link = event.target instanceof Element && event.target.closest("a[href]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) me.leaving = Date.now() + 10_000;
}

function build(root, me) {
  const bars = root.querySelector(".eq-bars");
  bars.replaceChildren();
  let stage = null;
  for (const unit of me.data.units) {
    if (stage !== null && unit.stage !== stage) bars.append(element("div", "eq-gap"));
    stage = unit.stage;
    bars.append(bar(root, me, unit.name));
  }
}

function element(tag, name, parent) {
  const made = document.createElement(tag);
  made.className = name;
  if (parent) parent.append(made);
  return made;
}

function bar(root, me, name) {
  const unit = element("div", "eq-unit");
  unit.dataset.unit = name;
  unit.tabIndex = 0;
  unit.setAttribute("role", "slider");
  unit.setAttribute("aria-orientation", "vertical");
  unit.setAttribute("aria-valuemin", "0");
  unit.setAttribute("aria-valuemax", "100");
  const track = element("div", "eq-track", unit);
  element("div", "eq-pruned", track);
  const heat = element("div", "eq-heat", track);
  element("div", "eq-pct", track);
  element("div", "eq-lock", track);
  element("i", "", element("div", "eq-share", unit));
  element("div", "eq-count", unit);
  element("div", "eq-name", unit);

  const rateAt = (y) => {
    const box = track.getBoundingClientRect();
    return clamp((box.bottom - y) / box.height);
  };
  unit.onpointerdown = (event) => {
    unit.setPointerCapture(event.pointerId);
    unit.focus({ preventScroll: true });
    me.drag = { name, from: event.clientY, moved: event.target === heat };
    if (me.drag.moved) unit.onpointermove(event); // a place on the strip is a rate
  };
  unit.onpointermove = (event) => {
    if (!me.drag || me.drag.name !== name) return;
    if (!me.drag.moved && Math.abs(event.clientY - me.drag.from) < 3) return;
    me.drag.moved = true;
    me.rates[name] = rateAt(event.clientY);
    paint(root, me);
    post(me, "drag", name);
  };
  unit.onpointerup = unit.onpointercancel = () => {
    if (!me.drag) return;
    me.drag = null;
    post(me, "rest", name);
  };
  unit.onpointerenter = () => { me.hover = name; line(root, me); };
  unit.onpointerleave = () => { me.hover = null; line(root, me); };
  unit.onkeydown = (event) => {
    const steps = { ArrowUp: 0.01, ArrowRight: 0.01, ArrowDown: -0.01, ArrowLeft: -0.01, PageUp: 0.1, PageDown: -0.1, Home: -1, End: 1 };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      post(me, "rest", name);
    } else if (event.key in steps) {
      event.preventDefault();
      me.rates[name] = clamp((me.rates[name] ?? 0) + steps[event.key]);
      paint(root, me);
      settle(me, name);
    }
  };
  return unit;
}

function paint(root, me) {
  const known = new Map(me.data.units.map((u) => [u.name, u]));
  const room = root.clientWidth / Math.max(1, me.data.units.length);
  const roomy = room > 30;
  const showAll = me.data.units.every((u) => `${u.pruned}/${u.size}`.length * 6.5 < room); // else the pruned alone
  const largest = Math.max(...me.data.units.map((u) => u.share), 1e-9);
  for (const node of root.querySelectorAll(".eq-unit")) {
    const unit = known.get(node.dataset.unit);
    if (!unit) continue;
    const rate = me.rates[unit.name] ?? 0;
    const part = (name) => node.querySelector(name);
    node.classList.toggle("chosen", unit.name === me.data.chosen);
    part(".eq-pruned").style.height = `${rate * 100}%`;
    part(".eq-pruned").classList.toggle("zero", rate === 0);
    part(".eq-pct").textContent = roomy ? `${Math.round(rate * 100)}%` : "";
    part(".eq-heat").style.background = unit.heat;
    part(".eq-heat").hidden = !unit.heat;
    part(".eq-pct").style.right = unit.heat ? "34%" : "0";
    part(".eq-lock").textContent = unit.locks ? "🔒" : "";
    part(".eq-share i").style.height = `${(unit.share / largest) * 24}px`;
    part(".eq-count").textContent = roomy ? (showAll ? `${unit.pruned}/${unit.size}` : unit.pruned) : "";
    part(".eq-name").textContent = roomy ? unit.label : "";
    node.setAttribute("aria-label", unit.name);
    node.setAttribute("aria-valuenow", String(Math.round(rate * 100)));
    const numbers = { rate: Math.round(rate * 100), k: unit.pruned, n: unit.size, share: (unit.share * 100).toFixed(1) };
    node.setAttribute("aria-valuetext", fill(me.data.words.rate, numbers));
    node.title = `${unit.name}: ${fill(me.data.words.prunes, numbers)}`;
  }
  line(root, me);
}

function line(root, me) {
  root.querySelector(".eq-hint").textContent = me.data.words.hint;
  const name = me.drag?.name ?? me.hover ?? me.data.chosen;
  const unit = me.data.units.find((u) => u.name === name);
  root.querySelector(".eq-status").innerHTML = "";
  if (!unit) return;
  const status = root.querySelector(".eq-status");
  element("b", "", status).textContent = unit.name;
  const numbers = { k: unit.pruned, n: unit.size, share: (unit.share * 100).toFixed(1) };
  status.append(`  ${fill(me.data.words.prunes, numbers)}`);
  if (unit.members > 1) status.append(`, ${fill(me.data.words.moves, { n: unit.members })}`);
  status.append(` · ${unit.damage || unit.agreement}`);
}
