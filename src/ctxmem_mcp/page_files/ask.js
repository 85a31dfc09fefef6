// What an agent gets: the view for a question, or the brief, exactly as it is sent, with the cost of its parts.

import { tabAddress } from "./address.js";
import { conversationPath, read } from "./api.js";
import { copy, h, number, tokens } from "./dom.js";
import { idsIn, viewElement } from "./view_text.js";

const BUDGETS = [500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 20_000, 32_000, 64_000];
export async function askTab(id, info, fields, isBrief = false) {
  const budget = h("input", { type: "range", id: "budget", min: "0", max: String(BUDGETS.length - 1), value: String(nearest(fields.budget ?? (isBrief ? 4_000 : 8_000))) });
  const shown = h("output", { for: "budget" });
  const query = h("input", { type: "text", id: "query", value: fields.query ?? "", placeholder: "What do you want to know?", autocomplete: "off" });
  const layout = h("select", { id: "layout" }, h("option", { value: "tree" }, "In order"), h("option", { value: "stable" }, "For prompt caches"));
  const moment = h("input", { type: "range", id: "moment", min: "0", max: String(lastIndex(info, fields)), value: String(lastIndex(info, fields)) });
  const momentShown = h("output", { for: "moment" });
  const result = h("div", { class: "result", "aria-live": "polite" });
  let asks = 0;
  const ask = async () => {
    const asked = ++asks;
    shown.textContent = tokens(BUDGETS[budget.value]);
    momentShown.textContent = momentText(moment);
    result.setAttribute("aria-busy", "true");
    try {
      const view = isBrief
        ? await read(conversationPath(id, "/brief"), { budget: BUDGETS[budget.value] })
        : await read(conversationPath(id, "/view"), { query: query.value, budget: BUDGETS[budget.value], layout: layout.value, turn: await turnAt(id, fields, moment) });
      if (asked === asks) result.replaceChildren(...viewElements(id, view));
    } catch (error) {
      if (asked === asks) result.replaceChildren(h("p", { class: "notice", role: "alert" }, error.message));
    } finally {
      result.removeAttribute("aria-busy");
    }
  };
  for (const control of [budget, layout, moment]) control.addEventListener("change", ask);
  budget.addEventListener("input", () => (shown.textContent = tokens(BUDGETS[budget.value])));
  moment.addEventListener("input", () => (momentShown.textContent = momentText(moment)));
  ask();
  const form = h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); ask(); } },
    !isBrief && h("div", { class: "row" }, h("label", { for: "query" }, "Question"), query, h("button", {}, "Ask")),
    h("div", { class: "row" }, h("label", { for: "budget" }, "Budget"), budget, shown,
      !isBrief && [h("label", { for: "layout" }, "Layout"), layout, h("label", { for: "moment" }, "As of"), moment, momentShown]));
  return [form, result];
}

const nearest = (budget) => BUDGETS.reduce((best, one, at) => (Math.abs(one - budget) < Math.abs(BUDGETS[best] - budget) ? at : best), 0);

function lastIndex(info, fields) {
  const tip = fields.turn ?? info.head;
  return (info.branches.find((branch) => branch.turn_id === tip)?.turns ?? 1) - 1;
}

const momentText = (moment) => (moment.value === moment.max ? "now" : `turn ${number(Number(moment.value))}`);

/** The turn as of which the view is, empty for the head. */
async function turnAt(id, fields, moment) {
  if (moment.value === moment.max) return fields.turn ?? "";
  const { turns } = await read(conversationPath(id, "/turns"), { first: moment.value, last: moment.value, turn: fields.turn });
  return turns[0]?.id ?? "";
}

function viewElements(id, view) {
  const copyAll = () => copy(`${view.header}\n${view.text}`, "View");
  return [
    meter(view),
    h("div", { class: "row" },
      h("button", { onclick: copyAll }, "Copy as context"),
      h("button", { onclick: () => copy(idsIn(view.text).join("\n"), "Ids") }, "Copy ids")),
    viewElement(view.text, (name, line) => (name.startsWith("t") ? h("a", { href: tabAddress(id, "tree", { open: name }) }, line) : line)),
    view.reasons.length > 0 && reasons(id, view.reasons),
  ].filter(Boolean);
}

function meter(view) {
  const part = (name, size) => {
    const bar = h("span", { class: name });
    bar.style.width = `${(100 * Math.max(0, size)) / view.token_budget}%`;
    return bar;
  };
  const own = view.shown_tokens - view.quoted_tokens;
  const words = view.quoted_tokens
    ? `${number(view.quoted_tokens)} quoted, ${number(own)} outline and ids`
    : `${number(view.shown_tokens)} shown`;
  return h("div", { class: "meter" },
    h("div", { class: "track" }, part("quoted", view.quoted_tokens), part("own", own)),
    h("p", { class: "quiet" }, `${words}, of a budget of ${tokens(view.token_budget)}; the whole history has ${tokens(view.tokens)}.`));
}

function reasons(id, list) {
  return h("details", {},
    h("summary", {}, "Why these parts were opened"),
    h("ol", {}, list.map((reason) => h("li", {},
      h("a", { href: tabAddress(id, "tree", { open: reason.turn_id }) }, reason.turn_id),
      h("span", { class: "quiet" }, ` ${tokens(reason.tokens)} · ${reason.why.join(", ")}`)))));
}
