// Search over everything: hits with their words, opened in the tree.

import { tabAddress } from "./address.js";
import { read } from "./api.js";
import { count, day, h } from "./dom.js";

export async function searchPage(fields) {
  const query = fields.query ?? "";
  document.getElementById("search-text").value = query;
  const found = await read("search", { query, limit: 50, role: fields.role, since: fields.since, until: fields.until, conversation: fields.conversation });
  const role = h("select", { id: "role" }, ["", "user", "assistant", "tool", "system"].map((name) => h("option", { value: name, selected: name === (fields.role ?? "") }, name || "Any role")));
  const since = h("input", { type: "date", id: "since", value: fields.since ?? "" });
  const again = () => (location.hash = `#/search?${new URLSearchParams(Object.entries({ ...fields, query, role: role.value, since: since.value }).filter(([, value]) => value))}`);
  role.addEventListener("change", again);
  since.addEventListener("change", again);
  const all = found.searched < found.conversations ? `, ${found.searched} of ${found.conversations} conversations searched` : "";
  return {
    title: query,
    elements: [
      h("h1", {}, `Search: ${query}`),
      h("div", { class: "row" }, h("label", { for: "role" }, "Role"), role, h("label", { for: "since" }, "Since"), since),
      h("p", { class: "quiet" }, count(found.hits.length, "hit") + all),
      Object.entries(found.unreadable).map(([file, why]) => h("p", { class: "notice" }, `${file}: ${why}`)),
      h("ol", { class: "hits" }, found.hits.map(hit)),
    ],
  };
}

function hit(one) {
  const facts = [one.role, one.name, day(one.said_at), one.path.at(-1)?.replaceAll("`", ""), one.conversation_id, one.conversations > 1 && `in ${one.conversations} conversations`];
  return h("li", {},
    h("a", { href: tabAddress(one.conversation_id, "tree", { open: one.turn_id }) }, one.snippet),
    h("span", { class: "quiet" }, facts.filter(Boolean).join(" · ")));
}
