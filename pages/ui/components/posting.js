// How what a hand moves goes to the server: at most one message under way; the next one leaves when the server has
// answered, with the newest state. `me.message` makes it of what is pending, `me.send` sends it.
function post(me, phase, name) {
  clearTimeout(me.settle);
  me.pending = { phase, name };
  if (phase === "rest") me.waiting = 0;
  flush(me);
}

function flush(me) {
  if (!me.pending || (me.waiting && Date.now() - me.waitedSince < 600)) return;
  me.seq += 1;
  me.waiting = me.seq;
  me.waitedSince = Date.now();
  const pending = me.pending;
  me.pending = null;
  me.send({ seq: me.seq, ...me.message(pending) });
}

function answered(me, echo) {
  if (!me.waiting || echo < me.waiting) return;
  me.waiting = 0;
  flush(me);
}

// Keys come one by one: they rest when no other follows.
function settle(me, name) {
  post(me, "drag", name);
  me.settle = setTimeout(() => post(me, "rest", name), 250);
}

// What an element's script returns is called when the element is taken off the page, and also whenever newer data
// came while the script was being loaded: then the element is still there, and nothing of it may end.
const whenGone = (parentElement, end) => () => {
  if (!parentElement.isConnected) end();
};

