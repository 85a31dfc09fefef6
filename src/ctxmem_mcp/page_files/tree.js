// The tree: nested bands along the conversation's length, and below them the same nodes as a list that opens down to turns.
// Only what is seen is built: bands that are wide enough, and the children of nodes that are open.

import { change, conversationPath, read } from "./api.js";
import { count, h, number, say, tokens } from "./dom.js";
import { inline } from "./markdown.js";
import { redactTurn } from "./redact.js";
import { turnElement } from "./turn.js";

const KINDS = {
  request: "Requests", decision: "Decisions", error: "Errors", ending: "How errors ended", outcome: "Outcomes", file: "Files", fact: "Facts",
};
const TURNS_PER_PAGE = 50;
// Shares of the width: narrower bands are not built; wide ones have room for their title.
const NARROWEST = 0.004;
const WIDE = 0.05;
const LINES_SHOWN = 200;

export async function treeTab(id, info, fields) {
  const tip = fields.turn ?? "";
  const { nodes } = await read(conversationPath(id, "/outline"), { turn: tip });
  const tree = new Tree(id, tip, nodes);
  if (fields.open) queueMicrotask(() => tree.openTurn(fields.open));
  return [
    tip && h("p", { class: "notice" }, `As of ${tip}, not the current branch's end.`),
    tree.bands,
    tree.filters(),
    tree.lines,
    tree.list,
  ];
}

class Tree {
  constructor(id, tip, nodes) {
    this.id = id;
    this.tip = tip;
    this.nodes = nodes;
    this.total = place(nodes, 0);
    this.kinds = new Set();
    this.range = [0, this.total];
    this.bands = h("div", { class: "bands", role: "group", "aria-label": "The conversation from its beginning to its end" });
    this.lines = h("ol", { class: "lines", hidden: true });
    this.list = h("ul", { class: "tree", role: "tree", "aria-label": "Sections" }, nodes.map((node) => this.item(node)));
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.list.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
    this.drawBands();
  }

  // ------------------------------------------------------------ bands

  drawBands() {
    const levels = [];
    this.collect(this.nodes, 0, levels);
    const [from, to] = this.range;
    const isWhole = from === 0 && to === this.total;
    this.bands.replaceChildren(
      ...levels.map((bands) => h("div", { class: "level" }, bands)),
      h("div", { class: "row quiet" }, `${tokens(Math.round(to - from))} of ${tokens(this.total)}`,
        !isWhole && h("button", { class: "plain", onclick: () => this.zoom(0, this.total) }, "Show all")),
    );
  }

  collect(nodes, depth, levels) {
    const [from, to] = this.range;
    for (const node of nodes) {
      const left = Math.max(node.start, from);
      const width = (Math.min(node.start + node.tokens, to) - left) / (to - from);
      if (width < NARROWEST) continue;
      (levels[depth] ??= []).push(this.band(node, (left - from) / (to - from), width));
      this.collect(node.children, depth + 1, levels);
    }
  }

  band(node, left, width) {
    const marks = [...kindsIn(node)].filter((kind) => this.kinds.has(kind));
    const band = h("button", {
      class: `band ${width > WIDE ? "wide " : ""}${marks.length ? "marked " : ""}${marks.join(" ")}`, tabindex: "-1", title: `${node.title}\nturns ${node.first}–${node.last}, ${tokens(node.tokens)}`,
      onclick: () => this.onBand(node),
    }, width > WIDE ? node.title.replaceAll("`", "") : "");
    band.style.left = `${100 * left}%`;
    band.style.width = `${100 * width}%`;
    return band;
  }

  onBand(node) {
    this.zoom(node.start, node.start + node.tokens);
    this.reveal(node);
  }

  zoom(from, to) {
    this.range = [from, Math.max(to, from + 1)];
    this.drawBands();
  }

  // ------------------------------------------------------------ list

  item(node) {
    const label = h("span", { class: "label" },
      h("span", { class: "title" }, inline(node.title || "…")),
      h("span", { class: "quiet" }, `turns ${node.first}–${node.last} · ${tokens(node.tokens)}${node.author === "extractive" || !node.author ? "" : ` · by ${node.author}`}`));
    const group = h("ul", { role: "group", hidden: true });
    const item = h("li", { role: "treeitem", "aria-expanded": "false", tabindex: "-1", "aria-label": `${node.title}, turns ${node.first} to ${node.last}` }, label, group);
    label.addEventListener("click", () => this.toggle(item));
    item.node = node;
    node.item = item;
    return item;
  }

  async toggle(item, open = item.getAttribute("aria-expanded") !== "true") {
    const group = item.querySelector(":scope > ul");
    item.setAttribute("aria-expanded", String(open));
    group.hidden = !open;
    this.focus(item);
    if (!open || group.childElementCount) return;
    const { node } = item;
    if (node.children.length) group.append(...node.children.map((child) => this.item(child)));
    else {
      group.append(...node.lines.map((line) => h("li", { role: "none", class: `summary-line ${line.kind}` }, lineText(line))));
      await this.showTurns(node, group, node.first);
    }
  }

  async showTurns(node, group, first) {
    const last = Math.min(node.last, first + TURNS_PER_PAGE - 1);
    const { turns } = await read(conversationPath(this.id, "/turns"), { first, last, turn: this.tip });
    group.append(...turns.map((turn) => h("li", { role: "none" }, turnElement(this.id, turn, { revert: (one) => this.revert(one), redact: (one) => redactTurn(this.id, one) }))));
    if (last === node.last) return;
    const more = h("button", { onclick: () => more.parentElement.remove() || this.showTurns(node, group, last + 1) }, `Show turns ${last + 1}–${Math.min(node.last, last + TURNS_PER_PAGE)}`);
    group.append(h("li", { role: "none" }, more));
  }

  async revert(turn) {
    if (!window.confirm(`Go back to ${turn.id}? What followed stays as a branch.`)) return;
    await change(conversationPath(this.id, "/revert"), { turn_id: turn.id });
    say(`${turn.id} is the head.`);
    window.dispatchEvent(new Event("hashchange"));
  }

  /** Opens every node down to this one. */
  async reveal(node) {
    for (const one of pathTo(this.nodes, node)) if (one.item.getAttribute("aria-expanded") !== "true") await this.toggle(one.item, true);
    node.item.scrollIntoView({ block: "nearest" });
    this.focus(node.item);
  }

  async openTurn(turnId) {
    const index = Number(/^[nt](\d+)/.exec(turnId)?.[1] ?? 0);
    const node = turnId.startsWith("n") && nodeWith(this.nodes, turnId);
    if (node) return this.reveal(node);
    const leaf = leafOf(this.nodes, index);
    if (!leaf) return;
    await this.reveal(leaf);
    // Views shorten ids.
    const turn = this.list.querySelector(`article[id^="${CSS.escape(turnId)}"]`);
    turn?.scrollIntoView({ block: "center" });
    turn?.focus();
  }

  focus(item) {
    for (const other of this.list.querySelectorAll("[role=treeitem][tabindex='0']")) other.setAttribute("tabindex", "-1");
    item.setAttribute("tabindex", "0");
    item.focus({ preventScroll: true });
  }

  onKey(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item || event.target !== item) return;
    const seen = [...this.list.querySelectorAll("[role=treeitem]")].filter((one) => !one.parentElement.closest("[hidden]"));
    const at = seen.indexOf(item);
    const isOpen = item.getAttribute("aria-expanded") === "true";
    const moves = {
      ArrowDown: () => seen[at + 1], ArrowUp: () => seen[at - 1], Home: () => seen[0], End: () => seen.at(-1),
      ArrowRight: () => (isOpen ? seen[at + 1] : this.toggle(item, true) && null),
      ArrowLeft: () => (isOpen ? this.toggle(item, false) && null : item.parentElement.closest("[role=treeitem]")),
      Enter: () => this.toggle(item) && null, " ": () => this.toggle(item) && null,
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    const next = moves[event.key]();
    if (next instanceof HTMLElement) {
      this.focus(next);
      next.scrollIntoView({ block: "nearest" });
    }
  }

  // ------------------------------------------------------------ marks

  filters() {
    const found = new Map(Object.keys(KINDS).map((kind) => [kind, 0]));
    for (const leaf of leaves(this.nodes)) for (const line of leaf.lines) found.set(line.kind, found.get(line.kind) + 1);
    return h("div", { class: "row chips", role: "group", "aria-label": "Mark and list" }, [...found].filter(([, times]) => times).map(([kind, times]) => {
      const chip = h("button", { class: `chip ${kind}`, "aria-pressed": "false", onclick: () => this.mark(kind, chip) }, `${KINDS[kind]} ${number(times)}`);
      return chip;
    }));
  }

  mark(kind, chip) {
    if (!this.kinds.delete(kind)) this.kinds.add(kind);
    chip.setAttribute("aria-pressed", String(this.kinds.has(kind)));
    this.drawBands();
    const lines = [...leaves(this.nodes)].flatMap((leaf) => leaf.lines.filter((line) => this.kinds.has(line.kind)));
    this.lines.hidden = !this.kinds.size;
    this.lines.replaceChildren(
      ...lines.slice(0, LINES_SHOWN).map((line) => h("li", { class: `summary-line ${line.kind}` }, h("button", { class: "plain", onclick: () => this.openLine(line) }, lineText(line)))),
    );
    if (lines.length > LINES_SHOWN) this.lines.append(h("li", { class: "quiet" }, `${count(lines.length - LINES_SHOWN, "more line")}; search finds them.`));
  }

  async openLine(line) {
    const leaf = leafOf(this.nodes, line.index);
    if (leaf) await this.reveal(leaf);
  }
}

/** Sets where each node starts, in tokens; returns where the last one ends. */
function place(nodes, start) {
  for (const node of nodes) {
    node.start = start;
    place(node.children, start);
    start += node.tokens;
  }
  return start;
}

function* leaves(nodes) {
  for (const node of nodes) {
    if (node.children.length) yield* leaves(node.children);
    else yield node;
  }
}

function kindsIn(node) {
  node.kinds ??= new Set(node.children.length ? node.children.flatMap((child) => [...kindsIn(child)]) : node.lines.map((line) => line.kind));
  return node.kinds;
}

function leafOf(nodes, index) {
  return [...leaves(nodes)].find((leaf) => leaf.first <= index && index <= leaf.last);
}

/** Returns the node whose id begins so. */
function nodeWith(nodes, id) {
  for (const node of nodes) {
    const found = node.id?.startsWith(id) ? node : nodeWith(node.children, id);
    if (found) return found;
  }
  return null;
}

function pathTo(nodes, node) {
  for (const one of nodes) {
    if (one === node) return [one];
    if (one.start <= node.start && node.start < one.start + one.tokens) {
      const rest = pathTo(one.children, node);
      if (rest.length) return [one, ...rest];
    }
  }
  return [];
}

const lineText = (line) => [inline(line.text), h("span", { class: "quiet" }, ` ${line.kind}, t${line.index}`)];
