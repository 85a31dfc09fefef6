// What is stored, and what the gateway sent: totals, a bar per day, and tables per day, project or agent, as CSV and JSON.

import { read } from "./api.js";
import { count, h, number, s, tokens } from "./dom.js";

const SENT = ["requests", "tokens_in", "tokens_cached", "tokens_saved", "tokens_out", "cost"];
const STORED = ["conversations", "turns", "tokens", "bytes"];
const KEYS = { date: "Day", project: "Project", agent: "Agent", conversation_id: "Conversation" };
const DAYS_SHOWN = 60;

export async function usagePage(fields) {
  const usage = await read("usage");
  const stored = usage.stored.map((one) => ({ ...one, conversations: 1 }));
  const all = total(stored, STORED);
  const key = KEYS[fields.by] ? fields.by : "date";
  const by = h("select", { id: "by" }, Object.entries(KEYS).map(([name, title]) => h("option", { value: name, selected: name === key }, title)));
  by.addEventListener("change", () => (location.hash = `#/usage?by=${by.value}`));
  const sent = usage.total;
  return {
    title: "Usage",
    elements: [
      h("h1", {}, "Usage"),
      h("dl", { class: "totals" },
        pair("Stored", tokens(all.tokens), `${count(all.conversations, "conversation")}, ${(all.bytes / 1e6).toFixed(1)} MB`),
        pair("Sent by the gateway", tokens(sent.tokens_in), count(sent.requests, "request")),
        pair("From the provider's cache", tokens(sent.tokens_cached), share(sent.tokens_cached, sent.tokens_in)),
        pair("Not sent, kept in memory", tokens(sent.tokens_saved), ""),
        pair("Cost", `$${sent.cost.toFixed(2)}`, "at the prices that are set")),
      h("div", { class: "row" }, h("label", { for: "by" }, "Per"), by),
      section("Stored", "stored", key, stored, STORED),
      usage.data.length ? section("Sent by the gateway", "sent", key, usage.data, SENT, chart(usage.data)) : h("p", { class: "quiet" }, "The gateway has sent nothing yet."),
      h("div", { class: "row" }, save("usage.json", () => JSON.stringify(usage, null, 1))),
    ],
  };
}

function section(title, file, key, data, columns, picture) {
  const rows = grouped(data, key, columns);
  const names = [key, ...columns];
  return h("section", {}, h("h2", {}, title), picture, table(title, names, rows), h("div", { class: "row" }, save(`${file}-per-${key.replace("_id", "")}.csv`, () => csv(names, rows))));
}

/** Returns a row for each value of the key: days in order, else the largest first. */
function grouped(data, key, columns) {
  const groups = new Map();
  for (const row of data) groups.set(row[key] ?? "other", [...(groups.get(row[key] ?? "other") ?? []), row]);
  const rows = [...groups].map(([value, some]) => ({ [key]: value, ...total(some, columns) }));
  return rows.sort(key === "date" ? (a, b) => (a.date < b.date ? 1 : -1) : (a, b) => b[columns[1]] - a[columns[1]]);
}

function total(rows, columns) {
  const sum = (name) => rows.reduce((before, row) => before + row[name], 0);
  return Object.fromEntries(columns.map((name) => [name, name === "cost" ? Number(sum(name).toFixed(6)) : sum(name)]));
}

function pair(name, value, more) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("span", { class: "quiet" }, ` ${more}`)));
}

const share = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "");

function table(title, columns, rows) {
  const cell = (value) => (typeof value === "number" ? h("td", { class: "number" }, number(value)) : h("td", {}, value ?? ""));
  return h("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": `Table: ${title}` }, h("table", {},
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col", class: typeof rows[0]?.[name] === "number" ? "number" : null }, name.replaceAll("_", " "))))),
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

function csv(names, rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    return `"${(typeof value === "string" && FORMULA.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  return [names.join(","), ...rows.map((row) => names.map((name) => cell(row[name])).join(","))].join("\r\n");
}

function save(name, make) {
  const click = () => {
    const address = URL.createObjectURL(new Blob([make()]));
    h("a", { href: address, download: name }).click();
    URL.revokeObjectURL(address);
  };
  return h("button", { onclick: click }, `Save ${name}`);
}
