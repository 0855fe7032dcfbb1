// How what a hand moves goes to the server: at most one message under way; the next one leaves when the server has
// answered, with the newest state. `me.message` makes it of what is pending, `me.send` sends it. While a hand moves,
// `me.pace` milliseconds lie between two, where there are some.
// Milliseconds that go on whatever is done to the computer's own clock.
const clock = () => Math.round(performance.timeOrigin + performance.now());
const PATIENCE = 600; // milliseconds; an answer that takes longer no longer holds up the next message

function post(me, phase, name) {
  clearTimeout(me.settle);
  me.settle = null;
  me.pending = { phase, name };
  if (phase === "rest") me.waiting = 0;
  flush(me);
}

function flush(me) {
  clearTimeout(me.retry);
  if (!me.pending || me.away) return;
  const held = me.waiting ? PATIENCE : me.pending.phase === "drag" ? me.pace ?? 0 : 0;
  const left = (me.waitedSince ?? 0) + held - clock();
  if (left > 0) {
    me.retry = setTimeout(() => flush(me), left);
    return;
  }
  me.seq += 1;
  me.said = me.waiting = me.seq;
  me.waitedSince = clock();
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
  me.settling = name;
  me.settle = setTimeout(() => post(me, "rest", name), 250);
}

// Off the page nothing is sent; what was still to be said is said when the element is on it again.
function leavePage(me) {
  me.away = true;
  if (!me.settle) return;
  clearTimeout(me.settle);
  me.settle = null;
  me.pending = { phase: "rest", name: me.settling };
  me.waiting = 0;
}

function enterPage(me) {
  me.away = false;
  flush(me);
}

// Whether the server knows all that was done here: nothing is under way, and nothing is still to be said.
function isSettled(me, echo) {
  return !me.pending && !me.settle && !(echo < me.said);
}

// A server that was started anew, or lost this tab, knows nothing of what was said to it before.
function meet(me, session) {
  if (me.session === session) return;
  Object.assign(me, { session, said: 0, waiting: 0, pending: null });
}

// What an element remembers outlives its place in the page: one that is mounted anew goes on where it was, or a key
// pressed just before would be lost. `fresh` makes what a first one begins with.
function remembered(key, fresh) {
  const all = (window.fpgmElements ??= new Map());
  if (!all.has(key)) all.set(key, fresh());
  return all.get(key);
}

function element(tag, name, parent, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

// What an element's script returns is called when the element is taken off the page, and also whenever newer data
// came while the script was being loaded: then the element is still there, and nothing of it may end.
const whenGone = (parentElement, end) => () => {
  if (!parentElement.isConnected) end();
};

