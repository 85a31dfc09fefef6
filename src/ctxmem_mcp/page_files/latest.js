// Shows what was asked for last: an answer that comes after a newer question is dropped.

import { h } from "./dom.js";

/** Returns an element, and a function that fills it with the elements that `load` answers with. */
export function latest() {
  const element = h("div", { class: "result", "aria-live": "polite" });
  let asks = 0;
  const show = async (load) => {
    const asked = ++asks;
    element.setAttribute("aria-busy", "true");
    try {
      const elements = await load();
      if (asked === asks) element.replaceChildren(...elements.filter(Boolean));
    } catch (error) {
      if (asked === asks) element.replaceChildren(h("p", { class: "notice", role: "alert" }, error.message));
    } finally {
      if (asked === asks) element.removeAttribute("aria-busy");
    }
  };
  return { element, show };
}
