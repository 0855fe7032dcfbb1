// One filter beside the picture: which, its lock, its kernels beside its nearest twin's, its ranks.
const STOPS = [[103, 0, 31], [214, 96, 77], [247, 247, 247], [67, 147, 195], [5, 48, 97]]; // from -1 to 1, 0 in the middle
const NONE = -128;

const chosenOf = (me) => me.look.chosen ?? me.data.nearest;
const twinOf = (me) => me.data.near[chosenOf(me)]?.[0] ?? null;

function buildSide(root, me) {
  const place_ = root.querySelector(".pic-side");
  const { words, to_median: { length } } = me.data;
  place_.replaceChildren();
  const top = element("div", "side-top", place_);
  const label = element("label", "", top);
  element("span", "", label, words.filter);
  const select = element("select", "side-filter", label);
  for (let i = 0; i < length; i += 1) element("option", "", select, i).value = i;
  select.onchange = () => choose(root, me, Number(select.value));
  const locks = element("div", "side-locks", top);
  locks.setAttribute("role", "group");
  locks.setAttribute("aria-label", words.lock);
  locks.title = words.lock_help;
  for (const [state, name] of [[null, words.lock_free], ["in", words.lock_keep], ["out", words.lock_prune]]) {
    const button = element("button", "", locks, name);
    button.type = "button";
    button.dataset.state = state ?? "";
    button.onclick = () => lock(root, me, state);
  }
  element("p", "side-notes", place_);
  element("div", "side-kernels", place_);
  element("table", "side-ranks", place_);
}

const lockOf = (me, index) => (me.data.locked_in.includes(index) ? "in" : me.data.locked_out.includes(index) ? "out" : null);

function paintSide(root, me) {
  const { data } = me, { words } = data;
  const chosen = chosenOf(me), twin = twinOf(me);
  root.querySelector(".side-filter").value = chosen;
  const state = lockOf(me, chosen) ?? "";
  for (const button of root.querySelectorAll(".side-locks button")) {
    button.disabled = !data.unit;
    button.setAttribute("aria-pressed", String(button.dataset.state === state));
  }
  const notes = [me.states[chosen] & PRUNED ? words.is_pruned : words.is_kept];
  if (chosen === data.medoid) notes.push(words.is_medoid);
  if (chosen === data.nearest) notes.push(words.is_nearest);
  if (twin !== null) notes.push(fill(words.twin_at, { twin, gap: data.gaps[chosen].toPrecision(3) }));
  root.querySelector(".side-notes").textContent = notes.join(", ");
  const fits = data.tiles.shown === chosen;
  root.querySelector(".side-kernels").classList.toggle("late", !fits);
  root.querySelector(".side-ranks").classList.toggle("late", !fits);
  if (fits && me.tiled !== data.tiles) {
    me.tiled = data.tiles;
    kernels(root, me, chosen, twin);
    ranks(root, me);
  }
}

function kernels(root, me, chosen, twin) {
  const { words, tiles } = me.data;
  const place_ = root.querySelector(".side-kernels");
  place_.replaceChildren();
  const names = [`${words.filter} ${chosen}`, `${words.twin} ${twin}`, words.difference];
  tiles.sheets.forEach((sheet, i) => {
    const figure = element("figure", "", place_);
    const canvas = element("canvas", "", figure);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", names[i]);
    paintSheet(canvas, new Int8Array(bytesOf(sheet).buffer), tiles.columns);
    element("figcaption", "", figure, names[i]);
  });
  place_.title = fill(words.scale, { limit: tiles.limit.toPrecision(2) });
}

function paintSheet(canvas, values, columns) {
  [canvas.width, canvas.height] = [columns, values.length / columns];
  const image = new ImageData(canvas.width, canvas.height);
  values.forEach((value, i) => {
    if (value === NONE) return;
    const along = (value / 127 + 1) * 2, low = Math.min(3, Math.floor(along)), part = along - low;
    STOPS[low].forEach((from, k) => { image.data[4 * i + k] = from + (STOPS[low + 1][k] - from) * part; });
    image.data[4 * i + 3] = 255;
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function ranks(root, me) {
  const { words, to_median: { length } } = me.data;
  const table = root.querySelector(".side-ranks");
  table.replaceChildren();
  element("caption", "", table, fill(words.ranks, { n: length }));
  const body = element("tbody", "", table);
  for (const [title, rank] of me.data.tiles.ranks) {
    const row = element("tr", "", body);
    element("th", "", row, title).scope = "row";
    const bar = element("i", "", element("td", "side-bar", row));
    bar.style.width = `${(100 * rank) / length}%`;
    element("td", "side-rank", row, rank);
  }
}

function lock(root, me, state) {
  me.locks = [...me.locks.filter(([index]) => index !== chosenOf(me)), [chosenOf(me), state]];
  me.look.chosen = chosenOf(me);
  post(me, "rest");
}

