// The text of a view, with what opens the turns and sections that it names.

import { h } from "./dom.js";

// The line above a quoted turn or section: an id in brackets, and who spoke.
const NAMED_LINE = /^\[(?:… )?([nt]\d+[^\s\]]*)[^\]]*\]/;

/** Returns the text as an element. link: returns what stands for a line that names a turn or a section. */
export function viewElement(text, link) {
  const lines = text.split("\n").map((line) => {
    const name = NAMED_LINE.exec(line)?.[1];
    return name ? h("span", { class: "heading" }, link(name, line), "\n") : `${line}\n`;
  });
  return h("pre", { class: "view", tabindex: "0", "aria-label": "The view" }, lines);
}

/** Returns the ids of the turns and sections that a view shows. */
export function idsIn(text) {
  return text.split("\n").map((line) => NAMED_LINE.exec(line)?.[1]).filter(Boolean);
}
