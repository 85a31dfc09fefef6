// The branches: where each parts from the head's, its last turns, and two of them side by side.

import { tabAddress } from "./address.js";
import { change, conversationPath, read } from "./api.js";
import { count, day, h, say } from "./dom.js";
import { turnElement } from "./turn.js";

const LAST_TURNS = 6;

export async function branchesTab(id, info) {
  const longest = Math.max(...info.branches.map((branch) => branch.turns));
  const compared = h("div", { class: "compared" });
  return [
    h("p", {}, info.branches.length === 1 ? "There is one branch." : `${info.branches.length} branches. A bar begins where a branch parts from the current one.`),
    h("ol", { class: "branches" }, info.branches.map((branch) => line(id, info, branch, longest, compared))),
    compared,
  ];
}

function line(id, info, branch, longest, compared) {
  const isHead = branch.turn_id === info.head;
  const bar = h("span", { class: "bar-part" });
  bar.style.marginInlineStart = `${(100 * (isHead ? 0 : branch.parts_at)) / longest}%`;
  bar.style.width = `${(100 * (branch.turns - (isHead ? 0 : branch.parts_at))) / longest}%`;
  const facts = [isHead ? "current" : `parts after turn ${branch.parts_at}`, count(branch.turns, "turn"), day(branch.said_at)];
  return h("li", { class: isHead ? "head" : "" },
    h("span", { class: "track" }, bar),
    h("span", {}, facts.filter(Boolean).join(" · ")),
    h("span", { class: "row" },
      h("a", { href: tabAddress(id, "tree", isHead ? {} : { turn: branch.turn_id }) }, "Tree"),
      h("button", { onclick: () => compare(id, info, branch, compared) }, "Last turns"),
      !isHead && h("button", { onclick: () => goBack(id, branch) }, "Make it current…")));
}

async function compare(id, info, branch, compared) {
  const from = Math.min(branch.turn_id === info.head ? Infinity : branch.parts_at, branch.turns - 1);
  const first = Math.max(0, branch.turn_id === info.head ? branch.turns - LAST_TURNS : from - 1);
  const { turns } = await read(conversationPath(id, "/turns"), { first, last: first + LAST_TURNS - 1, turn: branch.turn_id });
  const column = h("section", { "aria-label": `Turns of ${branch.turn_id}` },
    h("h2", {}, `${branch.turn_id}, from turn ${first}`), turns.map((turn) => turnElement(id, turn)));
  while (compared.children.length > 1) compared.firstChild.remove();
  compared.append(column);
}

async function goBack(id, branch) {
  if (!window.confirm("Make this branch the current one? The other stays as a branch.")) return;
  await change(conversationPath(id, "/revert"), { turn_id: branch.turn_id });
  say("The branch is the current one.");
  window.dispatchEvent(new Event("hashchange"));
}
