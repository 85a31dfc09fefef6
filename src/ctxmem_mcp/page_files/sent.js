// Shows each request that the gateway sent as a bar of its parts, with the prefix that the provider's cache served.

import { tabAddress } from "./address.js";
import { conversationPath, read } from "./api.js";
import { count, day, h, number, tokens } from "./dom.js";
import { turnElement } from "./turn.js";
import { viewElement } from "./view_text.js";

const SHOWN = 100;
const TURNS = 30;

export async function sentTab(id) {
  const { requests } = await read(conversationPath(id, "/sent"));
  if (!requests.length) return [h("p", { class: "quiet" }, "No request of this conversation passed the gateway, or none since it records what is sent.")];
  const most = Math.max(...requests.map(size));
  const detail = h("section", { "aria-label": "The request", "aria-live": "polite" });
  const lines = requests.map((one, at) => line(id, one, at, requests[at - 1], most, detail));
  return [
    h("p", {}, `${count(requests.length, "request")}, newest first. The coloured part is the prefix that the provider served from its cache.`),
    detail,
    h("ol", { class: "branches" }, lines.reverse().slice(0, SHOWN)),
    requests.length > SHOWN && h("p", { class: "quiet" }, `${number(requests.length - SHOWN)} earlier requests are not listed.`),
  ];
}

/** The tokens sent: as the provider counted them, else as counted here. */
const size = (one) => one.tokens_in ?? one.system + one.head + one.rest;

/** The parts in the order of the request. Providers count tools and formats, which are in no turn, before the turns. */
function partsOf(one) {
  const own = one.system + one.head + one.rest;
  return [
    ["Tools and format", Math.max(0, size(one) - own)], ["System prompt", one.system],
    ["Pinned texts and view", one.head], ["Turns, unchanged", one.rest],
  ].filter(([, part]) => part > 0);
}

function line(id, one, at, before, most, detail) {
  const hasMoved = before && one.view && indexOf(before.first) < indexOf(one.first);
  const share = one.cached === null ? "cache not reported" : `${Math.round((100 * one.cached) / Math.max(1, size(one)))} % from the cache`;
  const facts = [day(one.at), `${tokens(size(one))} of ${tokens(one.history)}`, share, hasMoved && "compacted further here"];
  return h("li", {},
    bar(one, most),
    h("button", { class: "plain", onclick: () => open(id, one, at, detail) }, `Request ${at + 1}`),
    h("span", { class: "quiet" }, facts.filter(Boolean).join(" · ")));
}

function bar(one, most) {
  const track = h("span", { class: "track sent-parts" });
  let start = 0;
  for (const [name, part] of partsOf(one)) {
    const cached = Math.min(part, Math.max(0, (one.cached ?? 0) - start));
    for (const [tokensOf, kind] of [[cached, "from-cache"], [part - cached, "not-cached"]]) {
      if (!tokensOf) continue;
      const piece = h("span", { class: kind, title: `${name}: ${tokens(tokensOf)}` });
      piece.style.width = `${(100 * tokensOf) / most}%`;
      track.append(piece);
    }
    track.lastChild?.classList.add("part-end");
    start += part;
  }
  return track;
}

async function open(id, one, at, detail) {
  const left = { tokens: one.cached ?? 0 };
  const rows = partsOf(one).map(([name, part]) => {
    const cached = Math.min(part, left.tokens);
    left.tokens -= cached;
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, number(part)), h("td", { class: "number" }, number(cached)));
  });
  const link = (name, text) => h("a", { href: tabAddress(id, "tree", { open: name }) }, text);
  const view = one.view && (await read(conversationPath(id, `/sent/${at}/view`)));
  detail.replaceChildren(...[
    h("h2", {}, `Request ${at + 1}`),
    h("table", {}, h("thead", {}, h("tr", {}, ["Part", "Tokens", "From the cache"].map((name, at) => h("th", { scope: "col", class: at ? "number" : null }, name)))), h("tbody", {}, rows)),
    view && h("details", {},
      h("summary", {}, `The view up to ${one.view.end}`),
      h("p", { class: "quiet" }, view.is_same ? "Exactly as it was sent." : "Computed again from the whole history, so it differs from the one that was sent."),
      viewElement(view.text, link)),
    view && addedParts(one),
    await turnsSent(id, one),
  ].filter(Boolean));
  detail.scrollIntoView({ block: "nearest" });
}

const indexOf = (turn) => Number(/^t(\d+)/.exec(turn)?.[1] ?? -1);

/** Says which turns the parts are for that the gateway added to the view. They are not recorded. */
function addedParts(one) {
  const [from, to] = [indexOf(one.view.end) + 1, indexOf(one.first) - 1];
  return from > 0 && from <= to && h("p", { class: "quiet" }, `For the turns ${number(from)}–${number(to)} the gateway added short parts to this view, which are not shown here.`);
}

async function turnsSent(id, one) {
  const [first, last] = [indexOf(one.first), indexOf(one.last)];
  if (first < 0) return null;
  const from = Math.max(first, last - TURNS + 1);
  const { turns } = await read(conversationPath(id, "/turns"), { first: from, last, turn: one.last });
  let uncached = size(one) - (one.cached ?? 0);
  const cachedFrom = new Map([...turns].reverse().map((turn) => [turn.id, (uncached -= turn.tokens) <= 0]));
  return h("details", {},
    h("summary", {}, `Turns ${number(first)}–${number(last)}, sent unchanged${from > first ? `; the last ${TURNS}` : ""}`),
    turns.map((turn) => h("div", { class: cachedFrom.get(turn.id) ? "cached-turn" : "" }, turnElement(id, turn))));
}
