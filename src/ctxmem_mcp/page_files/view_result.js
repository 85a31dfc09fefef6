// A view as the page shows it: its size, its text with links, and why its parts were opened.

import { copy, h, number, tokens } from "./dom.js";
import { idsIn, viewElement } from "./view_text.js";

/** Returns the elements of a view. address: returns the address of a turn or section; its second argument is the session's id, in a project. */
export function viewElements(view, address) {
  const link = (name, text, session) => {
    const target = address(name, session);
    return target ? h("a", { href: target }, text) : text;
  };
  return [
    meter(view),
    copyButtons(view.header ? `${view.header}\n${view.text}` : view.text),
    viewElement(view.text, link),
    view.reasons?.length > 0 && reasons(view.reasons, address),
  ];
}

function copyButtons(text) {
  return h("div", { class: "row" },
    h("button", { onclick: () => copy(text, "View") }, "Copy as context"),
    h("button", { onclick: () => copy(idsIn(text).join("\n"), "Ids") }, "Copy ids"));
}

function meter(view) {
  if (view.shown_tokens === undefined) return null;
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

function reasons(list, address) {
  return h("details", {},
    h("summary", {}, "Why these parts were opened"),
    h("ol", {}, list.map((reason) => h("li", {},
      h("a", { href: address(reason.turn_id) }, reason.turn_id),
      h("span", { class: "quiet" }, ` ${tokens(reason.tokens)} · ${reason.why.join(", ")}`)))));
}
