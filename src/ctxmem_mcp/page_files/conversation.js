// One conversation: its facts, what can be done with it, and its tabs.

import { tabAddress } from "./address.js";
import { change, conversationPath, read } from "./api.js";
import { askTab } from "./ask.js";
import { branchesTab } from "./branches.js";
import { compareTab } from "./compare.js";
import { askFirst } from "./dialog.js";
import { count, day, h, say, tokens } from "./dom.js";
import { inline } from "./markdown.js";
import { sentTab } from "./sent.js";
import { treeTab } from "./tree.js";

const TABS = { tree: "Tree", ask: "Ask", brief: "Hand-off", compare: "Compare", branches: "Branches", sent: "Sent" };
const POLL_MS = 2_000;

export async function conversationPage(id, tab, fields) {
  const info = await read(conversationPath(id));
  const panel = tabElements(id, info, tab, fields);
  const news = h("p", { class: "notice", hidden: true });
  const timer = setInterval(() => poll(id, info, news), POLL_MS);
  return {
    title: info.title || id,
    leave: () => clearInterval(timer),
    elements: [
      h("h1", {}, inline(info.title || id)),
      h("p", { class: "quiet" }, facts(info)),
      actions(id, info),
      news,
      h("nav", { class: "tabs", "aria-label": "Views of this conversation" }, Object.entries(TABS).map(([name, title]) =>
        h("a", { href: tabAddress(id, name, fields), "aria-current": name === tab ? "page" : null }, title),
      )),
      ...(await panel),
    ],
  };
}

function tabElements(id, info, tab, fields) {
  if (tab === "ask") return askTab(id, info, fields);
  if (tab === "brief") return askTab(id, info, fields, true);
  if (tab === "compare") return compareTab(id, info, fields);
  if (tab === "sent") return sentTab(id);
  if (tab === "branches") return branchesTab(id, info);
  return treeTab(id, info, fields);
}

function facts(info) {
  const expires = new Date(info.expires * 1_000).toISOString();
  return [info.conversation_id, count(info.turns, "turn"), tokens(info.tokens), `kept until ${day(expires)}`].join(" · ");
}

function actions(id, info) {
  const days = h("input", { type: "number", id: "days", min: "1", max: "365", value: String(info.retention_days), required: true });
  const setDays = async (event) => {
    event.preventDefault();
    const changed = await change(conversationPath(id, "/retention"), { days: Number(days.value) });
    say(`Kept for ${count(changed.retention_days, "day")} after the last turn.`);
  };
  return h(
    "div",
    { class: "row" },
    h("form", { class: "row", onsubmit: setDays }, h("label", { for: "days" }, "Days kept"), days, h("button", {}, "Set")),
    h("button", { class: "danger", onclick: () => forget(id, info) }, "Forget…"),
  );
}

function forget(id, info) {
  const confirm = h("input", { id: "confirm", autocomplete: "off" });
  askFirst({
    title: "Forget this conversation",
    button: "Forget",
    content: [
      h("p", {}, `${count(info.turns, "turn")} of ${info.branches.length > 1 ? `${info.branches.length} branches` : "one branch"} are removed from every file. This can't be undone.`),
      h("label", { for: "confirm" }, "Type the id to confirm: ", h("code", {}, id)),
      confirm,
    ],
    act: async () => {
      const receipt = await change(conversationPath(id, "/forget"), { confirm: confirm.value.trim() });
      return {
        title: "Forgotten",
        content: [
          h("p", {}, `${count(receipt.turns, "turn")} and ${count(receipt.nodes, "node")} removed, ${count(receipt.bytes, "byte")}.`),
          h("ul", {}, [...receipt.checked, ...receipt.warnings].map((line) => h("li", {}, line))),
        ],
        after: () => (location.hash = "#/"),
      };
    },
  });
}

async function poll(id, info, news) {
  if (document.hidden) return;
  const now = await read(conversationPath(id)).catch(() => null);
  if (!now || now.head === info.head) return;
  const added = now.turns - info.turns;
  news.hidden = false;
  news.replaceChildren(`${added > 0 ? `${count(added, "new turn")}. ` : "It went on elsewhere. "}`, h("button", { onclick: () => window.dispatchEvent(new Event("hashchange")) }, "Show"));
}
