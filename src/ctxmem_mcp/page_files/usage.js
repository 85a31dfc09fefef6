// What is stored, and what the gateway sent: totals, a bar per day, and the table as CSV or JSON.

import { read } from "./api.js";
import { count, h, number, s, tokens } from "./dom.js";

const COLUMNS = ["date", "conversation_id", "requests", "tokens_in", "tokens_cached", "tokens_saved", "tokens_out", "cost"];
const DAYS_SHOWN = 60;

export async function usagePage() {
  const [usage, listed] = await Promise.all([read("usage"), read("conversations", { limit: 500 })]);
  const stored = listed.conversations.reduce((sum, one) => sum + one.tokens, 0);
  const bytes = listed.conversations.reduce((sum, one) => sum + one.bytes, 0);
  const total = usage.total;
  return {
    title: "Usage",
    elements: [
      h("h1", {}, "Usage"),
      h("dl", { class: "totals" },
        pair("Stored", tokens(stored), `${count(listed.conversations.length, "conversation")}, ${(bytes / 1e6).toFixed(1)} MB`),
        pair("Sent by the gateway", tokens(total.tokens_in), count(total.requests, "request")),
        pair("From the provider's cache", tokens(total.tokens_cached), share(total.tokens_cached, total.tokens_in)),
        pair("Not sent, kept in memory", tokens(total.tokens_saved), ""),
        pair("Cost", `$${total.cost.toFixed(2)}`, "at the prices that are set")),
      h("section", {}, h("h2", {}, "Stored per agent"), table(["agent", "conversations", "turns", "tokens"], byAgent(listed.conversations))),
      h("section", {}, h("h2", {}, "Gateway, tokens per day"), usage.data.length ? chart(usage.data) : h("p", { class: "quiet" }, "The gateway has sent nothing yet.")),
      usage.data.length > 0 && h("section", {}, h("div", { class: "row" }, save("usage.csv", csv(usage.data)), save("usage.json", JSON.stringify(usage, null, 1))), table(COLUMNS, usage.data)),
    ],
  };
}

function pair(name, value, more) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("span", { class: "quiet" }, ` ${more}`)));
}

const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "");

function byAgent(conversations) {
  const rows = new Map();
  for (const one of conversations) {
    const row = rows.get(one.agent) ?? { agent: one.agent ?? "other", conversations: 0, turns: 0, tokens: 0 };
    row.conversations += 1;
    row.turns += one.turns;
    row.tokens += one.tokens;
    rows.set(one.agent, row);
  }
  return [...rows.values()].sort((a, b) => b.tokens - a.tokens);
}

function table(columns, rows) {
  const cell = (value) => (typeof value === "number" ? h("td", { class: "number" }, number(value)) : h("td", {}, value ?? ""));
  return h("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": "Table" }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name.replaceAll("_", " "))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((name) => cell(row[name])))))));
}

function chart(rows) {
  const days = new Map();
  for (const row of rows) {
    const one = days.get(row.date) ?? { cached: 0, sent: 0 };
    one.cached += row.tokens_cached;
    one.sent += row.tokens_in;
    days.set(row.date, one);
  }
  const shown = [...days].slice(-DAYS_SHOWN);
  const top = Math.max(1, ...shown.map(([, one]) => one.sent));
  const svg = s("svg", { viewBox: `0 0 ${shown.length * 12} 104`, class: "chart", role: "img", "aria-label": `Tokens per day, at most ${number(top)}; the darker part came from the cache` });
  shown.forEach(([date, one], at) => {
    const [all, cached] = [(100 * one.sent) / top, (100 * one.cached) / top];
    svg.append(s("g", {},
      s("rect", { x: at * 12 + 1, y: 102 - all, width: 10, height: all, class: "sent" }),
      s("rect", { x: at * 12 + 1, y: 102 - cached, width: 10, height: cached, class: "cached" }),
      s("title", {}, `${date}: ${number(one.sent)} sent, ${number(one.cached)} from the cache`)));
  });
  return svg;
}

// A spreadsheet would run a cell that begins with one of these.
const FORMULA = /^[=+\-@\t\r]/;

function csv(rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    return `"${(typeof value === "string" && FORMULA.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  return [COLUMNS.join(","), ...rows.map((row) => COLUMNS.map((name) => cell(row[name])).join(","))].join("\r\n");
}

function save(name, text) {
  const click = () => {
    const address = URL.createObjectURL(new Blob([text]));
    h("a", { href: address, download: name }).click();
    URL.revokeObjectURL(address);
  };
  return h("button", { onclick: click }, `Save ${name}`);
}
