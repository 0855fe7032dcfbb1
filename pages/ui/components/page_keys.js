// The arrow keys turn the lesson's pages, unless the focus is on something that uses them itself. However it was
// turned, a new page begins at its top.
const instances = new WeakMap();
const OWN = "input, textarea, select, [contenteditable=true], [role=slider], [role=combobox], [role=radio], [role=radiogroup], [role=tab], [role=listbox], .pl-point, .eq-unit";

export default function ({ data, parentElement, setStateValue }) {
  const before = instances.get(parentElement);
  if (before) {
    window.removeEventListener("keydown", before.turn);
    if (before.page !== data.page) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0);
  }
  const turn = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const from = event.composedPath()[0]; // the target itself, within shadows too
    if (from instanceof Element && from.closest(OWN)) return;
    event.preventDefault();
    setStateValue("turn", { seq: clock(), by });
  };
  instances.set(parentElement, { turn, page: data.page });
  window.addEventListener("keydown", turn);
  parentElement.querySelector("span").dataset.listens = data.page; // a test's sign that a key will be heard
  return whenGone(parentElement, () => {
    window.removeEventListener("keydown", turn);
    instances.delete(parentElement);
  });
}
