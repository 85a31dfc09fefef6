// The projects, and for each the view for a question to all its sessions, its hand-off, and the text that a new session gets.

import { tabAddress } from "./address.js";
import { read } from "./api.js";
import { budgetControl } from "./budget.js";
import { count, day, h, tokens } from "./dom.js";
import { latest } from "./latest.js";
import { viewElements } from "./view_result.js";
import { viewElement } from "./view_text.js";

const TABS = { view: "Ask", brief: "Hand-off", start: "New session" };
const OF_CONVERSATION = / conversation ([\w.:@-]+),/;
const address = (folder, tab) => `#/project?${new URLSearchParams({ folder, tab })}`;

export async function projectPage(fields) {
  const { conversations } = await read("conversations", { limit: 500 });
  if (!fields.folder) return { title: "Projects", elements: [h("h1", {}, "Projects"), list(conversations)] };
  const tab = TABS[fields.tab] ? fields.tab : "view";
  const ids = conversations.map((one) => one.conversation_id);
  return {
    title: fields.folder,
    elements: [
      h("h1", {}, fields.folder),
      h("nav", { class: "tabs", "aria-label": "Views of this project" }, Object.entries(TABS).map(([name, title]) =>
        h("a", { href: address(fields.folder, name), "aria-current": name === tab ? "page" : null }, title))),
      ...(tab === "start" ? await startTab(fields.folder) : askTab(fields, tab, ids)),
    ],
  };
}

function list(conversations) {
  const folders = new Map();
  for (const one of conversations.filter((found) => found.space)) {
    const row = folders.get(one.space) ?? { sessions: 0, tokens: 0, last: "" };
    row.sessions += 1;
    row.tokens += one.tokens;
    row.last = one.last_activity > row.last ? one.last_activity : row.last;
    folders.set(one.space, row);
  }
  if (!folders.size) return h("p", { class: "quiet" }, "No conversation has a folder or a space.");
  return h("ol", { class: "conversations" }, [...folders].map(([folder, row]) => h("li", {},
    h("a", { href: address(folder, "view") }, folder),
    h("span", { class: "quiet" }, [count(row.sessions, "session"), tokens(row.tokens), day(row.last)].join(" · ")))));
}

function askTab(fields, tab, ids) {
  const result = latest();
  // A view may shorten the ids of its sessions.
  const target = (turn, session) => {
    const id = session && ids.find((one) => one.startsWith(session));
    return id && tabAddress(id, "tree", { open: turn });
  };
  const ask = () => result.show(async () =>
    viewElements(await read(`project/${tab}`, { folder: fields.folder, query: query.value, budget: budget.value() }), target));
  const query = h("input", { type: "text", id: "query", value: fields.query ?? "", placeholder: "What do you want to know?", autocomplete: "off" });
  const budget = budgetControl(tab === "brief" ? 4_000 : 8_000, ask);
  ask();
  const form = h("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); ask(); } },
    tab === "view" && h("div", { class: "row" }, h("label", { for: "query" }, "Question"), query, h("button", {}, "Ask")),
    h("div", { class: "row" }, budget.elements));
  return [form, result.element];
}

async function startTab(folder) {
  const { text, token_budget: budget } = await read("project/start", { folder });
  if (!budget) return [h("p", { class: "notice" }, "Nothing: the setting CTXMEM_INJECT_TOKENS is 0.")];
  if (!text) return [h("p", { class: "notice" }, "Nothing: no session was captured in this folder.")];
  const id = OF_CONVERSATION.exec(text)?.[1];
  const link = (name, text) => (id ? h("a", { href: tabAddress(id, "tree", { open: name }) }, text) : text);
  return [
    h("p", { class: "quiet" }, `What the hook of a session that starts here adds to its context, in at most ${tokens(budget)}.`),
    viewElement(text, link),
  ];
}
