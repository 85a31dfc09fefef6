// Renders the Markdown that agents write: paragraphs, headings, lists, code, emphasis. Everything else stays text.

import { h } from "./dom.js";

const FENCE = /^\s*(`{3,}|~{3,})(.*)$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|(?<![\w*])\*([^*\s][^*]*)\*/gs;

/** Returns elements for a text. */
export function markdown(text) {
  const blocks = [];
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; ) {
    const fence = FENCE.exec(lines[at]);
    if (fence) {
      const end = closing(lines, at + 1, fence[1]);
      blocks.push(code(lines.slice(at + 1, end).join("\n"), fence[2].trim()));
      at = end + 1;
      continue;
    }
    const [block, next] = paragraph(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

/** Returns a code block; a diff has coloured lines. */
export function code(text, language = "") {
  const isDiff = language === "diff" || /^(diff --git|@@ -\d)/m.test(text);
  return h("pre", { class: isDiff ? "diff" : "code", tabindex: "0" }, isDiff ? diffLines(text) : h("code", {}, text));
}

export function diffLines(text) {
  return text.split("\n").map((line) => {
    const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : line.startsWith("@@") ? "place" : "";
    return h("span", { class: `line ${kind}` }, `${line}\n`);
  });
}

function closing(lines, from, fence) {
  const end = lines.findIndex((line, at) => at >= from && line.trim().startsWith(fence));
  return end < 0 ? lines.length : end;
}

function paragraph(lines, at) {
  const heading = HEADING.exec(lines[at]);
  if (heading) return [h("p", { class: "heading" }, inline(heading[2])), at + 1];
  if (ITEM.test(lines[at])) return list(lines, at);
  if (!lines[at].trim()) return [null, at + 1];
  let end = at;
  while (end < lines.length && lines[end].trim() && !FENCE.test(lines[end]) && !(end > at && ITEM.test(lines[end]))) end++;
  return [h("p", {}, inline(lines.slice(at, end).join("\n"))), end];
}

function list(lines, at) {
  const items = [];
  const isNumbered = /\d/.test(ITEM.exec(lines[at])[2]);
  while (at < lines.length && (ITEM.test(lines[at]) || /^\s{2,}\S/.test(lines[at]))) {
    const item = ITEM.exec(lines[at]);
    if (item) items.push(item[3]);
    else items[items.length - 1] += `\n${lines[at].trim()}`;
    at++;
  }
  return [h(isNumbered ? "ol" : "ul", {}, items.map((item) => h("li", {}, inline(item)))), at];
}

/** Returns a line of text with its code and emphasis. */
export function inline(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] !== undefined) parts.push(h("code", {}, match[2]));
    else if (match[3] !== undefined) parts.push(h("strong", {}, match[3]));
    else parts.push(h("em", {}, match[4]));
  }
  parts.push(text.slice(end));
  return parts;
}
