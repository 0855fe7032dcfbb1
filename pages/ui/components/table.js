// The precise way: the same rates as numbers, in the same frame as the bars, with an undo of its own.
function buildTable(root, me) {
  const place = root.querySelector(".eq-table");
  const { words, units } = me.data;
  place.replaceChildren();
  const tools = element("div", "eq-tools", place);
  const undo = element("button", "eq-undo", tools, words.table_undo);
  undo.type = "button";
  undo.onclick = () => back(root, me);
  const table = element("table", "", element("div", "eq-scroll", place));
  const head = element("tr", "", element("thead", "", table));
  for (const name of [words.table_unit, words.table_rate, words.table_pruned, words.table_share]) {
    element("th", "", head, name).scope = "col";
  }
  const body = element("tbody", "", table);
  for (const unit of units) row(root, me, body, unit.name);
  place.onkeydown = (event) => {
    if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    back(root, me);
  };
}

function row(root, me, body, name) {
  const line = element("tr", "", body);
  line.dataset.unit = name;
  element("th", "", line, name).scope = "row";
  const cell = element("td", "eq-rate", line);
  const input = element("input", "", cell);
  input.inputMode = "decimal";
  input.setAttribute("aria-label", `${name}: ${me.data.words.table_rate}`);
  element("span", "eq-wrong", cell).setAttribute("role", "alert");
  element("td", "eq-of", line);
  element("td", "eq-macs", line);
  input.onfocus = () => input.select();
  input.onchange = () => type(root, me, name, input, cell);
  input.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    if (!type(root, me, name, input, cell)) return;
    const next = event.key === "ArrowUp" ? line.previousElementSibling : line.nextElementSibling;
    (next?.querySelector("input") ?? input).focus();
  };
}

// A number from 0 to 100 is a rate, in percent; anything else is refused beside the cell, and what was there stays.
function type(root, me, name, input, cell) {
  const text = input.value.trim().replace("%", "").replace(",", ".");
  const before = me.rates[name] ?? 0;
  const percent = Number(text);
  const unit = me.data.units.find((u) => u.name === name);
  const fits = text !== "" && Number.isFinite(percent) && percent >= 0 && percent <= 100;
  const rate = Math.round(percent * 100) / 10_000;
  const allowed = fits && rate >= unit.low - 1e-9 && rate <= unit.high + 1e-9;
  const limits = { text: input.value, low: Math.round(unit.low * 100), high: Math.round(unit.high * 100) };
  cell.querySelector(".eq-wrong").textContent = allowed ? "" : fill(fits ? me.data.words.table_locked : me.data.words.table_wrong, limits);
  input.setAttribute("aria-invalid", String(!allowed));
  if (!allowed) {
    input.value = percentOf(before);
    input.select();
    return false;
  }
  if (Math.abs(rate - before) > 1e-9) {
    me.typed.push([name, before]);
    move(root, me, name, rate, true);
    post(me, "rest", name);
  }
  return true;
}

function back(root, me) {
  const last = me.typed.pop();
  if (!last || !(last[0] in me.rates)) return;
  move(root, me, last[0], last[1], true);
  post(me, "rest", last[0]);
}

const percentOf = (rate) => String(Math.round(rate * 10_000) / 100);

// All rows, or one.
function paintTable(root, me, only) {
  const place = root.querySelector(".eq-table");
  place.hidden = !me.open;
  if (!me.open) return;
  const active = root.getRootNode().activeElement;
  const known = new Map(me.data.units.map((u) => [u.name, u]));
  place.querySelector(".eq-undo").disabled = me.typed.length === 0;
  for (const line of place.querySelectorAll("tbody tr")) {
    const unit = known.get(line.dataset.unit);
    if (!unit || (only && unit.name !== only)) continue;
    const input = line.querySelector("input");
    const rate = me.rates[unit.name] ?? 0;
    if (input !== active || me.drag) input.value = percentOf(rate);
    line.classList.toggle("chosen", unit.name === (me.drag?.name ?? me.data.chosen));
    line.querySelector(".eq-of").textContent = fill(me.data.words.table_of, { k: countOf(me, unit), n: unit.size });
    line.querySelector(".eq-macs").textContent = `${(unit.share * 100).toFixed(1)}%`;
  }
}

