// The views of a layer: which panels are drawn, what they are coloured by, and the words that are read off them.
const ROOM_FOR_TWO = 700; // pixels

// What each filter is at a rate: the server's word at the rate it knows, at others the percents at which it flips.
function statesOf(data, rate) {
  const states = new Uint8Array(data.to_median.length);
  for (const [bit, known, flips] of [[PRUNED, data.cut.own, data.own[1]], [RIVAL, data.cut.rival, data.rival[1]]]) {
    if (!flips || Math.abs(rate - data.cut.rate) < 1e-9) for (const i of known) states[i] |= bit;
    else flips.forEach((at, i) => { if (at.filter((flip) => flip <= Math.round(rate * 100)).length % 2) states[i] |= bit; });
  }
  return states;
}

function panelsShown(root, me) {
  const { panels } = me.data.views[me.look.view] ?? { panels: [] };
  const first = me.look.view === "Map" && me.look.mapping === "PCA" && panels.length > 1 ? [panels[1], panels[0]] : [...panels];
  return root.querySelector(".pic-panels").clientWidth < ROOM_FOR_TWO ? first.slice(0, 1) : first;
}

// Everything but the colours: after another layer, view or size.
function arrange(root, me) {
  const place_ = root.querySelector(".pic-panels");
  const shown = panelsShown(root, me);
  const signature = `${me.look.layer}|${me.look.view}|${me.look.mapping}|${me.look.seed}`;
  if (signature !== me.arranged) {
    for (const chart of me.charts) chart.zoom = { k: 1, x: 0, y: 0 };
    if (me.arranged?.startsWith(`${me.look.layer}|`)) glide(root);
    me.arranged = signature;
  }
  while (me.charts.length < shown.length) {
    const chart = newChart(place_);
    listen(root, me, chart);
    me.charts.push(chart);
  }
  const width = Math.floor(place_.clientWidth / Math.max(1, shown.length)), height = place_.clientHeight;
  me.charts.forEach((chart, i) => {
    chart.svg.style.display = i < shown.length ? "" : "none";
    const wanted = [shown[i], chart.zoom, width, height];
    if (i >= shown.length || wanted.every((value, k) => value === chart.placed[k])) return; // most answers to a drag
    chart.placed = wanted;
    place(chart, shown[i], width, height);
  });
  me.visible = me.charts.slice(0, shown.length);
  const view = me.data.views[me.look.view];
  root.querySelector(".pic-busy").textContent = me.data.cut.busy[me.look.view] ?? "";
  root.querySelector(".pic-body").hidden = !view?.panels.length && me.look.view === "Replaceability";
  root.querySelector(".pic-caption").textContent = [view?.caption, me.data.cut.facts].filter(Boolean).join(" · ");
  follow(root, me);
}

// Points that change their view glide, so that the eye can follow one; never while they are dragged or zoomed.
function glide(root) {
  root.classList.add("glides");
  setTimeout(() => root.classList.remove("glides"), 450);
}

// Every frame of a drag: colours, counts and words, from the rate under the hand.
function follow(root, me) {
  const { data } = me;
  const rate = hand.rates[data.unit] ?? data.cut.rate;
  const states = (me.states = statesOf(data, data.unit ? rate : 0));
  const locked = new Set([...data.locked_in, ...data.locked_out]);
  const pairs = me.lines ? standIns(data, states) : [];
  for (const chart of me.visible) {
    colour(chart, states, locked);
    joined(chart, pairs);
    chart.cuts.replaceChildren();
    const said = { own: [PRUNED, fill(data.words.cut_own, { own: data.own[0] })], rival: [RIVAL, fill(data.words.cut_rival, { rival: data.rival[0] })] };
    for (const [axis, whose] of Object.entries(chart.panel.cuts)) cut(chart, axis, whose, (i) => states[i] & said[whose][0], said[whose][1]);
  }
  rings(root, me);
  legend(root, me, states);
  const says = sentence(me, states, pairs);
  root.querySelector(".pic-says").textContent = says;
  for (const chart of me.visible) chart.svg.setAttribute("aria-label", `${data.layer}: ${says}`);
  paintSide(root, me);
  if (root.querySelector(".pic-numbers").open) numbers(root, me);
}

function rings(root, me) {
  const chosen = chosenOf(me);
  for (const chart of me.visible) ringed(chart, chosen, twinOf(me));
}

// Each pruned filter with its nearest kept one: what could stand in for what.
function standIns(data, states) {
  const pairs = [];
  data.near.forEach((near, i) => {
    if (!(states[i] & PRUNED)) return;
    const kept = near.find((j) => !(states[j] & PRUNED));
    if (kept !== undefined) pairs.push([i, kept]);
  });
  return pairs;
}

const counted = (states, mask) => states.reduce((sum, state) => sum + ((state & mask) === mask), 0);

function legend(root, me, states) {
  const { data } = me, { words } = data;
  const pruned = counted(states, PRUNED), rival = counted(states, RIVAL), both = counted(states, PRUNED | RIVAL);
  const place_ = root.querySelector(".pic-legend");
  const entries = [
    ["kept", fill(words.kept, { n: states.length - pruned })],
    ["pruned", fill(words.pruned, { n: pruned })],
    ["rival", fill(words.rival, { rival: data.rival[0], n: rival })],
    ["star", words.median],
    ["ring", words.chosen],
  ].filter(([name]) => name !== "star" || me.visible.some((chart) => chart.star));
  const signature = entries.map(([name]) => name).join();
  if (place_.dataset.entries !== signature) {
    place_.dataset.entries = signature;
    place_.replaceChildren();
    for (const [name] of entries) {
      const entry = element("span", `is-${name}`, place_);
      const icon = draw(entry, "svg", { viewBox: "-12 -12 24 24", "aria-hidden": "true" });
      if (name === "star") draw(icon, "path", { class: "star", d: STAR });
      else if (name === "ring") draw(icon, "path", { class: "ring chosen", d: circle(9) });
      else {
        const point = draw(icon, "g", { class: `pt ${name === "pruned" ? "pruned" : name}` });
        if (name !== "rival") draw(point, "path", { class: "body", d: name === "pruned" ? cross(7.5) : circle(7) });
        else draw(point, "path", { class: "rim", d: circle(8) });
      }
      element("span", "", entry);
    }
  }
  entries.forEach(([, text], i) => { place_.children[i].lastChild.textContent = text; });
  place_.dataset.pruned = pruned;
  place_.dataset.both = both;
}

// What the picture shows in one sentence: where in the cloud the pruned filters lie by their true distances.
function sentence(me, states, pairs) {
  const { data } = me, { words } = data, n = states.length;
  const pruned = counted(states, PRUNED), both = counted(states, PRUNED | RIVAL), rival = counted(states, RIVAL);
  if (!data.unit) return words.says_whole;
  if (!pruned) return words.says_nothing;
  const middle = [...data.to_median].sort((a, b) => a - b)[Math.floor(n / 2)];
  const inside = data.to_median.filter((d, i) => d < middle && states[i] & PRUNED).length / pruned;
  const where = inside >= 0.75 ? words.where_middle : inside <= 0.25 ? words.where_rim : words.where_all;
  let said = fill(words.says, { own: data.own[0], rival: data.rival[0], k: pruned, n, where, both, rivals: rival });
  if (me.lines && pairs.length < pruned) said += ` ${fill(words.alone, { n: pruned - pairs.length, m: data.near[0].length })}`;
  return said;
}

function listen(root, me, chart) {
  const spot = (event) => {
    const box = chart.svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let from = null, panned = false;
  chart.svg.onpointerdown = (event) => { from = [event.clientX, event.clientY, { ...chart.zoom }]; panned = false; };
  chart.svg.onpointermove = (event) => {
    if (from && event.buttons & 1 && chart.zoom.k > 1 && Math.hypot(event.clientX - from[0], event.clientY - from[1]) > 3) {
      panned = true;
      chart.zoom = { k: from[2].k, x: from[2].x + event.clientX - from[0], y: from[2].y + event.clientY - from[1] };
      arrange(root, me);
      return;
    }
    tip(root, me, chart, nearestTo(chart, ...spot(event)), event);
  };
  chart.svg.onpointerleave = () => { root.querySelector(".pic-tip").hidden = true; };
  chart.svg.onclick = (event) => {
    const found = panned ? null : nearestTo(chart, ...spot(event));
    from = null;
    if (found !== null) choose(root, me, found);
  };
}

function zoomed(root, me, factor) {
  for (const chart of me.visible) {
    const k = factor ? Math.min(12, Math.max(1, chart.zoom.k * factor)) : 1;
    const by = k === 1 ? 0 : k / chart.zoom.k;
    chart.zoom = { k, x: chart.zoom.x * by, y: chart.zoom.y * by };
  }
  arrange(root, me);
}

function tip(root, me, chart, index, event) {
  const place_ = root.querySelector(".pic-tip");
  place_.hidden = index === null;
  chart.svg.style.cursor = index === null ? (chart.zoom.k > 1 ? "grab" : "") : "pointer";
  if (index === null) return;
  const { words, columns } = me.data;
  const state = me.states[index];
  const lines = [`${words.filter} ${index}: ${state & PRUNED ? words.is_pruned : words.is_kept}`];
  lines.push(fill(state & RIVAL ? words.rival_prunes : words.rival_keeps, { rival: me.data.rival[0] }));
  for (const [name, values] of Object.entries(columns)) lines.push(`${name} ${values[index].toPrecision(4)}`);
  place_.replaceChildren(...lines.map((text) => element("div", "", null, text)));
  const box = root.querySelector(".pic-plot").getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  place_.style.left = `${Math.min(x + 14, box.width - place_.offsetWidth - 4)}px`;
  place_.style.top = `${Math.max(0, Math.min(y + 14, box.height - place_.offsetHeight - 4))}px`;
}

// The numbers behind the picture, for eyes that want them and for screen readers.
function numbers(root, me) {
  const { words, columns, to_median: { length } } = me.data;
  const place_ = root.querySelector(".pic-scroll");
  const table = element("table");
  const head = element("tr", "", element("thead", "", table));
  for (const name of [words.filter, words.state, me.data.rival[0], ...Object.keys(columns)]) element("th", "", head, name).scope = "col";
  const body = element("tbody", "", table);
  for (let i = 0; i < length; i += 1) {
    const row = element("tr", "", body);
    const state = me.states[i];
    const lock = me.data.locked_in.includes(i) || me.data.locked_out.includes(i) ? " 🔒" : "";
    element("th", "", row, i).scope = "row";
    element("td", "", row, (state & PRUNED ? words.is_pruned : words.is_kept) + lock);
    element("td", "", row, state & RIVAL ? words.is_pruned : words.is_kept);
    for (const values of Object.values(columns)) element("td", "", row, values[i].toPrecision(5));
  }
  place_.replaceChildren(table);
}

