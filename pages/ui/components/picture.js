// The chosen layer. What is looked at changes here at once and is told to the server, which owns it; the colours follow
// the bars (hand.js), from the order that the server sent once.
const fresh = () => ({
  seq: clock(), waiting: 0, pending: null, settle: null, look: null, locks: [], lines: false, charts: [], visible: [],
  text: null, drawn: null, arranged: null, built: null, tiled: null, states: new Uint8Array(0),
});

export default function ({ data: sent, key, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".pic");
  if (!root || !sent) return;
  const me = remembered(key, fresh);
  if (me.text !== sent.drawn) Object.assign(me, { text: sent.drawn, drawn: read(sent.drawn) });
  const data = me.data = { ...me.drawn, ...sent };
  me.send = (message) => setStateValue("look", message);
  me.message = () => ({ ...me.look, locks: me.locks });
  meet(me, data.session);
  if (isSettled(me, data.look.seq)) me.locks = [];
  if (!me.look || isSettled(me, data.look.seq)) {
    const { layer, chosen, view, mapping, seed } = data.look;
    me.look = { layer, chosen, view, mapping, seed };
  }
  if (root !== me.root) mount(root, me);
  const built = `${data.layer}|${data.layers.length}|${data.to_median.length}|${data.words.filter}`;
  if (built !== me.built) {
    me.built = built;
    me.tiled = null;
    buildHead(root, me);
    buildSide(root, me);
  }
  paintHead(root, me);
  arrange(root, me);
  answered(me, data.look.seq);
  return whenGone(parentElement, () => {
    if (me.root !== root) return; // it is somewhere else by now
    leavePage(me);
    hand.removeEventListener("rates", me.follow);
    me.size.disconnect();
    me.root = null;
  });
}

// The picture, and every filter's nearest others as numbers again (picture.py's `packed`).
function read(text) {
  const drawn = JSON.parse(text), n = drawn.to_median.length;
  const all = new (n > 256 ? Uint16Array : Uint8Array)(bytesOf(drawn.near).buffer), each = all.length / n;
  return { ...drawn, near: drawn.to_median.map((_, i) => all.subarray(i * each, (i + 1) * each)) };
}

function mount(root, me) {
  if (me.root) me.size.disconnect();
  if (me.follow) hand.removeEventListener("rates", me.follow);
  Object.assign(me, { root, charts: [], visible: [], arranged: null, built: null });
  enterPage(me);
  me.follow = () => follow(root, me);
  hand.addEventListener("rates", me.follow);
  me.size = new ResizeObserver(() => { if (me.root === root) arrange(root, me); });
  me.size.observe(root.querySelector(".pic-panels"));
}

function choose(root, me, index) {
  look(root, me, { chosen: index });
}

function look(root, me, change) {
  Object.assign(me.look, change);
  paintHead(root, me);
  if ("chosen" in change && Object.keys(change).length === 1) follow(root, me);
  else arrange(root, me);
  post(me, "rest");
}

function options(select, values, chosen, name = (value) => value) {
  if (select.dataset.values !== values.join("|")) {
    select.dataset.values = values.join("|");
    select.replaceChildren();
    for (const value of values) element("option", "", select, name(value)).value = value;
  }
  select.value = chosen;
}

function buildHead(root, me) {
  const { words, views } = me.data;
  root.querySelector(".pic-layer span").textContent = words.layer;
  root.querySelector(".pic-layer select").onchange = (event) => {
    me.look.layer = event.target.value;
    me.look.chosen = null;
    post(me, "rest");
  };
  const tabs = root.querySelector(".pic-tabs");
  tabs.setAttribute("aria-label", words.views);
  tabs.replaceChildren();
  const names = Object.keys(views);
  const titles = {
    Map: words.map, Scores: words.scores, Radial: words.radial, Norms: words.norms,
    "Refit cost": words.refit_cost, Replaceability: words.replaceability,
  };
  names.forEach((name, i) => {
    const tab = element("button", "", tabs, titles[name]);
    Object.assign(tab, { type: "button", onclick: () => look(root, me, { view: name }) });
    Object.assign(tab.dataset, { view: name });
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "pic-plot");
    tab.onkeydown = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      look(root, me, { view: names[(i + by + names.length) % names.length] });
      tabs.querySelector("[aria-selected=true]").focus();
    };
  });
  const mapping = root.querySelector(".pic-mapping"), seed = root.querySelector(".pic-seed");
  mapping.setAttribute("aria-label", words.mapping);
  seed.setAttribute("aria-label", words.seed_of);
  mapping.onchange = () => look(root, me, { mapping: mapping.value });
  seed.onchange = () => look(root, me, { seed: Number(seed.value) });
  root.querySelector(".pic-lines span").textContent = words.lines;
  root.querySelector(".pic-lines").title = words.lines_help;
  root.querySelector(".pic-lines input").onchange = (event) => { me.lines = event.target.checked; follow(root, me); };
  const zoom = root.querySelector(".pic-zoom");
  zoom.replaceChildren();
  for (const [text, name, factor] of [["−", words.zoom_out, 1 / 1.5], ["+", words.zoom_in, 1.5], ["⟲", words.zoom_reset, 0]]) {
    const button = element("button", "", zoom, text);
    Object.assign(button, { type: "button", title: name, onclick: () => zoomed(root, me, factor) });
    button.setAttribute("aria-label", name);
  }
  root.querySelector(".pic-numbers summary").textContent = words.numbers;
  root.querySelector(".pic-numbers").ontoggle = (event) => { if (event.target.open) numbers(root, me); };
}

function paintHead(root, me) {
  const { data } = me;
  options(root.querySelector(".pic-layer select"), data.layers, me.look.layer);
  options(root.querySelector(".pic-mapping"), ["UMAP", "PCA"], me.look.mapping);
  options(root.querySelector(".pic-seed"), [...new Set([0, 1, 2, 3, 4, me.look.seed])].sort((a, b) => a - b), me.look.seed, (seed) => fill(data.words.seed, { seed }));
  root.querySelector(".pic-maps").hidden = me.look.view !== "Map";
  root.querySelector(".pic-lines input").checked = me.lines;
  for (const tab of root.querySelectorAll(".pic-tabs button")) {
    const chosen = tab.dataset.view === me.look.view;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
}
