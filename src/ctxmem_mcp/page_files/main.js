// Starts the page and shows what the address names: #/, #/c/ID/TAB?turn=..., #/project?folder=...,
// #/search?query=..., #/usage.

import { ApiError, start, useToken } from "./api.js";
import { conversationPage } from "./conversation.js";
import { conversationsPage } from "./conversations.js";
import { fill, h, say } from "./dom.js";
import { projectPage } from "./project.js";
import { searchPage } from "./search.js";
import { usagePage } from "./usage.js";

const main = document.getElementById("main");
let leave = () => {};
let shows = 0;

async function show() {
  const number = ++shows;
  leave();
  leave = () => {};
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map(decodeURIComponent);
  const fields = Object.fromEntries(new URLSearchParams(query));
  try {
    const page = await pageOf(parts, fields);
    if (number !== shows) return page.leave?.();
    leave = page.leave ?? leave;
    document.title = page.title ? `${page.title} · ctxmem` : "ctxmem";
    fill(main, page.elements);
    for (const link of document.querySelectorAll(".bar nav a"))
      link.toggleAttribute("aria-current", link.hash === `#/${["usage", "project"].includes(parts[0]) ? parts[0] : ""}`);
  } catch (error) {
    if (number === shows) fill(main, failure(error));
  }
}

function pageOf([kind, id, tab], fields) {
  if (kind === "c" && id) return conversationPage(id, tab || "tree", fields);
  if (kind === "search") return searchPage(fields);
  if (kind === "project") return projectPage(fields);
  if (kind === "usage") return usagePage(fields);
  return conversationsPage(fields);
}

function failure(error) {
  if (error instanceof ApiError && error.status === 401) return tokenForm();
  return [h("h1", {}, "This did not work"), h("p", { class: "notice", role: "alert" }, error.message)];
}

function tokenForm() {
  const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    useToken(input.value.trim());
    begin();
  };
  return [
    h("h1", {}, "Token needed"),
    h("p", {}, "This server wants a token: one from `ctxmem-mcp token`, or a new address from `ctxmem-mcp open`."),
    h("form", { class: "row", onsubmit: submit }, h("label", { for: "token" }, "Token"), input, h("button", {}, "Open")),
  ];
}

async function begin() {
  try {
    await start();
  } catch (error) {
    fill(main, failure(error));
    return;
  }
  await show();
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = document.getElementById("search-text").value.trim();
  if (query) location.hash = `#/search?${new URLSearchParams({ query })}`;
});
window.addEventListener("hashchange", show);
window.addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? "Something failed."));
begin();
