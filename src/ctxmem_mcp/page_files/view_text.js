// The text of a view, with what opens the turns and sections that it names.

import { h } from "./dom.js";

// The line above a quoted turn or section: an id in brackets, and who spoke.
const NAMED_LINE = /^\[(?:… )?([nt]\d+[^\s\]]*)[^\]]*\]/;
// In a view of a project, the line above a session's parts.
const SESSION_LINE = /^\[s .*?(\S+) [\d,]+ turns? /;

/** Returns the text as an element.
 *
 * link: returns what stands for a line that names a turn or a section; it gets the name, the line, and the session in a project.
 * mark: returns the class of a line, if it has one.
 */
export function viewElement(text, link, mark = () => "") {
  let session;
  const lines = text.split("\n").map((line) => {
    session = SESSION_LINE.exec(line)?.[1] ?? session;
    const name = NAMED_LINE.exec(line)?.[1];
    const marked = mark(line);
    if (name) return h("span", { class: `heading ${marked}` }, link(name, line, session), "\n");
    return marked ? h("span", { class: marked }, `${line}\n`) : `${line}\n`;
  });
  return h("pre", { class: "view", tabindex: "0", "aria-label": "The view" }, lines);
}

/** Returns the ids of the turns and sections that a view shows. */
export function idsIn(text) {
  return text.split("\n").map((line) => NAMED_LINE.exec(line)?.[1]).filter(Boolean);
}
