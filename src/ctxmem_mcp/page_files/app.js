// The app inside a chat: shows what get_context returned, opens what it names, and asks again. It talks to the host only.

import { count, fill, h, say, tokens } from "./dom.js";
import { viewElement } from "./view_text.js";

const PROTOCOL = "2026-01-26";
const ORIGIN = "*"; // a sandboxed frame does not know its host's
const waiting = new Map();
let requests = 0;
let asked = {};
const shown = [];

function send(message) {
  window.parent.postMessage({ jsonrpc: "2.0", ...message }, ORIGIN);
}

function request(method, params) {
  const id = ++requests;
  send({ id, method, params });
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

window.addEventListener("message", ({ source, data }) => {
  if (source !== window.parent || data?.jsonrpc !== "2.0") return;
  if (data.method) handle(data);
  else if (waiting.has(data.id)) {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error.message));
    else resolve(data.result);
  }
});

function handle({ id, method, params }) {
  if (method === "ui/notifications/tool-input") asked = params.arguments ?? {};
  else if (method === "ui/notifications/tool-result") show(params, "");
  else if (method === "ui/notifications/host-context-changed") adapt(params);
  if (id !== undefined) send({ id, result: {} });
}

function adapt(context) {
  if (context?.theme) document.documentElement.style.colorScheme = context.theme;
}

/** Shows a tool's result, and remembers it for the way back. */
function show(result, title) {
  const text = (result.content ?? []).filter((part) => part.type === "text").map((part) => part.text).join("\n");
  shown.push({ text, title, isError: result.isError });
  draw();
}

function draw() {
  const { text, title, isError } = shown.at(-1);
  const [first, rest] = text.startsWith("{") ? [text.slice(0, text.indexOf("\n")), text.slice(text.indexOf("\n") + 1)] : ["", text];
  const facts = factsOf(first);
  fill(
    document.getElementById("main"),
    asked.conversation_id && question(),
    shown.length > 1 && h("div", { class: "row" }, h("button", { onclick: back }, "Back"), h("strong", {}, title)),
    isError && h("p", { class: "notice", role: "alert" }, "The memory could not answer:"),
    facts && h("p", { class: "quiet" }, facts),
    viewElement(rest, (name, line) => h("button", { class: "plain", onclick: () => open(name) }, line)),
  );
}

function factsOf(header) {
  try {
    const { turns, tokens: all, shown_tokens: part } = JSON.parse(header);
    return `${tokens(part)} shown of ${tokens(all)} in ${count(turns, "turn")}`;
  } catch {
    return "";
  }
}

function question() {
  const query = h("input", { type: "text", id: "query", value: asked.query ?? "", placeholder: "What do you want to know?", autocomplete: "off" });
  const ask = () => {
    asked = { ...asked, query: query.value };
    call("get_context", asked, query.value);
  };
  // Not a form: hosts may forbid the frame to submit one.
  query.addEventListener("keydown", (event) => event.key === "Enter" && ask());
  return h("div", { class: "row ask", role: "search" }, h("label", { for: "query" }, "Question"), query, h("button", { onclick: ask }, "Ask"));
}

const open = (name) => call("expand_node", { conversation_id: asked.conversation_id, node_id: name }, name);

async function call(name, fields, title) {
  try {
    show(await request("tools/call", { name, arguments: fields }), title);
  } catch (error) {
    say(error.message);
  }
}

function back() {
  shown.pop();
  draw();
}

async function begin() {
  const appInfo = { name: "ctxmem", version: "1" };
  const { hostContext } = await request("ui/initialize", { appInfo, appCapabilities: {}, protocolVersion: PROTOCOL });
  adapt(hostContext);
  send({ method: "ui/notifications/initialized", params: {} });
  const tell = () => send({ method: "ui/notifications/size-changed", params: { height: document.documentElement.scrollHeight } });
  new ResizeObserver(tell).observe(document.body);
}

begin();
