// Compares what an agent gets for a question at two moments, or on two branches: which turns only one of the views shows.

import { tabAddress } from "./address.js";
import { conversationPath, read } from "./api.js";
import { branchOf } from "./ask.js";
import { budgetControl } from "./budget.js";
import { count, day, h } from "./dom.js";
import { latest } from "./latest.js";
import { momentControl } from "./moment.js";
import { idsIn, viewElement } from "./view_text.js";

export async function compareTab(id, info, fields) {
  const result = latest();
  const query = h("input", { type: "text", id: "query", value: fields.query ?? "", placeholder: "What do you want to know?", autocomplete: "off" });
  const compare = () => result.show(async () => {
    const turns = await Promise.all(sides.map((one) => one.turnId()));
    const views = await Promise.all(turns.map((turn) => read(conversationPath(id, "/view"), { query: query.value, budget: budget.value(), turn })));
    return [difference(id, sides.map((one) => one.text()), views.map((view) => view.text))];
  });
  const budget = budgetControl(fields.budget ?? 4_000, compare);
  const current = branchOf(info);
  // After going back, the head is within a branch.
  const branches = [current, ...info.branches.filter((branch) => branch.turn_id !== info.head)];
  const other = branches[1] ?? current;
  const sides = [side(id, branches, "Left", other, compare, other === current ? 0.5 : 1), side(id, branches, "Right", current, compare)];
  compare();
  const form = h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); compare(); } },
    h("div", { class: "row" }, h("label", { for: "query" }, "Question"), query, h("button", {}, "Compare")),
    h("div", { class: "row" }, budget.elements),
    sides.map((one) => one.element));
  return [form, result.element];
}

/** share: where the moment is at first; a branch compared with itself would show no difference. */
function side(id, branches, label, branch, onChange, share = 1) {
  const name = label.toLowerCase();
  const element = h("div", { class: "row" });
  const select = h("select", { id: `${name}-branch` }, branches.map((one) =>
    h("option", { value: one.turn_id, selected: one === branch }, [one === branches[0] ? "current" : one.turn_id, count(one.turns, "turn"), day(one.said_at)].filter(Boolean).join(" · "))));
  let moment;
  const draw = () => {
    const chosen = branches.find((one) => one.turn_id === select.value);
    moment = momentControl(id, chosen, `${name}-moment`, "as of", onChange, { tip: chosen.turn_id, share });
    element.replaceChildren(h("label", { for: `${name}-branch` }, label), select, ...moment.elements);
  };
  select.addEventListener("change", () => { draw(); onChange(); });
  draw();
  return { element, turnId: () => moment.turnId(), text: () => `${label}: ${select.selectedOptions[0].textContent}, ${moment.text()}` };
}

function difference(id, titles, texts) {
  const lines = texts.map((text) => new Set(text.split("\n")));
  const named = texts.map((text) => new Set(idsIn(text)));
  const link = (name, text) => h("a", { href: tabAddress(id, "tree", { open: name }) }, text);
  return h("div", { class: "compared" }, texts.map((text, at) => {
    const own = [...named[at]].filter((name) => !named[1 - at].has(name));
    return h("section", { "aria-label": titles[at] },
      h("h2", {}, titles[at]),
      own.length
        ? h("details", { class: "quiet" }, h("summary", {}, `Only here: ${own.length} turns and sections`), h("p", {}, own.join(", ")))
        : h("p", { class: "quiet" }, "Nothing that the other lacks."),
      viewElement(text, link, (line) => (line && !lines[1 - at].has(line) ? "only-here" : "")));
  }));
}
