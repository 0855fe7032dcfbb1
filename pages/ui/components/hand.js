// What the bars and the picture share while a hand moves, without the server: the rates in the browser, and how many
// filters they prune. One store a page, since every element is a script of its own.
const hand = (window.fpgmHand ??= Object.assign(new EventTarget(), { rates: {} }));

function tell(rates) {
  hand.rates = rates;
  hand.dispatchEvent(new Event("rates"));
}

