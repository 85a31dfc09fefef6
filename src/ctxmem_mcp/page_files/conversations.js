// The list of conversations: by day, with filters, and sub-agents under their session.

import { read } from "./api.js";
import { count, day, h, tokens } from "./dom.js";
import { inline } from "./markdown.js";

const SUB_AGENT = ".agent-";

export async function conversationsPage(fields) {
  const found = await read("conversations", { limit: 500, space: fields.space });
  const list = h("ol", { class: "conversations" });
  const filter = h("input", { type: "search", id: "filter", placeholder: "Title, id or agent", autocomplete: "off" });
  const agents = [...new Set(found.conversations.map((one) => one.agent).filter(Boolean))].sort();
  const agent = h("select", { id: "agent" }, h("option", { value: "" }, "All agents"), agents.map((name) => h("option", { value: name }, name)));
  const draw = () => drawList(list, found.conversations, filter.value.toLowerCase(), agent.value);
  filter.addEventListener("input", draw);
  agent.addEventListener("change", draw);
  draw();
  return {
    title: "Conversations",
    elements: [
      h("h1", {}, "Conversations"),
      h("div", { class: "row" }, h("label", { for: "filter" }, "Filter"), filter, h("label", { class: "hidden", for: "agent" }, "Agent"), agent),
      found.events_pending > 0 && h("p", { class: "notice" }, `${count(found.events_pending, "event")} of hooks not stored yet.`),
      Object.entries(found.unreadable).map(([file, why]) => h("p", { class: "notice" }, `${file}: ${why}`)),
      list,
      found.next_cursor && h("p", { class: "quiet" }, "Only the 500 most recent are listed; search finds the others."),
    ],
  };
}

function drawList(list, conversations, text, agent) {
  const shown = conversations.filter(
    (one) => (!agent || one.agent === agent) && `${one.title} ${one.conversation_id} ${one.agent}`.toLowerCase().includes(text),
  );
  const known = new Set(shown.map((one) => one.conversation_id));
  const parentOf = (one) => {
    const at = one.conversation_id.indexOf(SUB_AGENT);
    return at > 0 && known.has(one.conversation_id.slice(0, at)) ? one.conversation_id.slice(0, at) : null;
  };
  const tops = shown.filter((one) => !parentOf(one));
  list.replaceChildren(
    ...tops.map((one) => entry(one, shown.filter((other) => parentOf(other) === one.conversation_id))),
  );
  if (!tops.length) list.append(h("li", { class: "quiet" }, conversations.length ? "Nothing fits." : "No conversations yet."));
}

function entry(one, subAgents) {
  const left = Math.max(0, Math.ceil((Date.parse(one.expires_at) - Date.now()) / 86_400_000));
  const facts = [one.agent, day(one.last_activity), count(one.turns, "turn"), tokens(one.tokens), one.branches > 1 && `${one.branches} branches`, `${count(left, "day")} left`];
  return h(
    "li",
    {},
    h("a", { href: `#/c/${encodeURIComponent(one.conversation_id)}/tree` }, inline(one.title || one.conversation_id)),
    h("span", { class: "quiet" }, facts.filter(Boolean).join(" · ")),
    subAgents.length > 0 &&
      h("details", {}, h("summary", {}, count(subAgents.length, "sub-agent")), h("ol", { class: "conversations" }, subAgents.map((sub) => entry(sub, [])))),
  );
}
