// What an agent gets: the view for a question, or the brief, exactly as it is sent, with the cost of its parts.

import { tabAddress } from "./address.js";
import { conversationPath, read } from "./api.js";
import { budgetControl } from "./budget.js";
import { h } from "./dom.js";
import { latest } from "./latest.js";
import { momentControl } from "./moment.js";
import { viewElements } from "./view_result.js";

/** Returns the tab that asks. isBrief: it shows the hand-off, which has no question. */
export async function askTab(id, info, fields, isBrief = false) {
  const result = latest();
  const ask = () => result.show(async () => {
    const view = isBrief
      ? await read(conversationPath(id, "/brief"), { budget: budget.value() })
      : await read(conversationPath(id, "/view"), { query: query.value, budget: budget.value(), layout: layout.value, turn: await moment.turnId() });
    return viewElements(view, (turn) => tabAddress(id, "tree", { open: turn }));
  });
  const query = h("input", { type: "text", id: "query", value: fields.query ?? "", placeholder: "What do you want to know?", autocomplete: "off" });
  const layout = h("select", { id: "layout" }, h("option", { value: "tree" }, "In order"), h("option", { value: "stable" }, "For prompt caches"));
  const budget = budgetControl(fields.budget ?? (isBrief ? 4_000 : 8_000), ask);
  const moment = momentControl(id, branchOf(info, fields.turn), "moment", "As of", ask, { tip: fields.turn ?? "" });
  layout.addEventListener("change", ask);
  ask();
  const form = h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); ask(); } },
    !isBrief && h("div", { class: "row" }, h("label", { for: "query" }, "Question"), query, h("button", {}, "Ask")),
    h("div", { class: "row" }, budget.elements, !isBrief && [h("label", { for: "layout" }, "Layout"), layout, moment.elements]));
  return [form, result.element];
}

/** Returns the branch that ends at a turn: by default the head's. */
export function branchOf(info, turn) {
  const tip = turn ?? info.head;
  return info.branches.find((branch) => branch.turn_id === tip) ?? { turn_id: tip, turns: Number(/^t(\d+)/.exec(tip)?.[1] ?? 0) + 1 };
}
