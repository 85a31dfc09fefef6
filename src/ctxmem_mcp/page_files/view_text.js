// The text of a view, with what opens the turns and sections that it names.

import { h } from "./dom.js";

// How the line of a turn or section begins: an id in brackets, with who spoke or its size.
const NAMED_LINE = /^(\s*)(\[(?:… )?([nt]\d+[^\s\]]*)[^\]]*\])/;
// In a view of a project, the line above a session's parts.
const SESSION_LINE = /^\[s .*?(\S+) [\d,]+ turns? /;

/** Returns the text as an element.
 *
 * link: returns what stands for the brackets; it gets the name, their text, and the session in a project.
 * mark: returns the class of a line, if it has one.
 */
export function viewElement(text, link, mark = () => "") {
  let session;
  const lines = text.split("\n").map((line) => {
    session = SESSION_LINE.exec(line)?.[1] ?? session;
    const [all, indent, text, name] = NAMED_LINE.exec(line) ?? [];
    const marked = mark(line);
    if (name) return h("span", { class: marked }, indent, h("span", { class: "heading" }, link(name, text, session)), `${line.slice(all.length)}\n`);
    return marked ? h("span", { class: marked }, `${line}\n`) : `${line}\n`;
  });
  return h("pre", { class: "view", tabindex: "0", "aria-label": "The view" }, lines);
}

/** Returns the ids of the turns and sections that a view shows. */
export function idsIn(text) {
  return text.split("\n").map((line) => NAMED_LINE.exec(line)?.[3]).filter(Boolean);
}
