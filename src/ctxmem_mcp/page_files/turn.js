// Shows one turn: who, when, how long, and its content as text, code, difference or picture.

import { conversationPath, read } from "./api.js";
import { copy, count, day, h, number, say } from "./dom.js";
import { code, diffLines, markdown } from "./markdown.js";

const PICTURE = /data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]{64,}/;
const RAW_PICTURE = /"media_type":\s*"(image\/(?:png|jpeg|gif|webp))",\s*"data":\s*"([A-Za-z0-9+/=]{64,})"/;

// How agents name the text before and after an edit.
const EDITS = [["old_string", "new_string"], ["oldText", "newText"], ["old_str", "new_str"], ["oldString", "newString"]];

/** Returns an article for a turn of a conversation. options.revert, options.redact: called with the turn. */
export function turnElement(conversationId, turn, options = {}) {
  const body = h("div", { class: "content" }, content(turn));
  const rest = turn.chars - [...turn.content].length;
  return h(
    "article",
    { class: `turn ${turn.role}`, id: turn.id, tabindex: "-1" },
    h(
      "header",
      {},
      h("span", { class: "who" }, turn.name ? `${turn.role} · ${turn.name}` : turn.role),
      h("span", { class: "quiet" }, [day(turn.said_at), count(turn.tokens, "token")].filter(Boolean).join(" · ")),
      h("button", { class: "plain", onclick: () => copy(turn.id, "Id") , title: "Copy the id" }, turn.id),
      options.revert && h("button", { class: "plain", onclick: () => options.revert(turn) }, "Go back to here"),
      options.redact && h("button", { class: "plain", onclick: () => options.redact(turn) }, "Redact…"),
    ),
    body,
    rest > 0 &&
      h("button", { onclick: (event) => showAll(conversationId, turn, body, event.target) }, `Show ${number(rest)} more characters`),
  );
}

async function showAll(conversationId, turn, body, button) {
  const whole = await read(conversationPath(conversationId, `/turns/${turn.id}`));
  body.replaceChildren(...content(whole));
  button.remove();
  say("The whole turn is shown.");
}

/** Returns the elements of a turn's content. */
export function content(turn) {
  const picture = pictureOf(turn.content);
  if (picture) return [h("img", { src: picture, alt: "Picture in this turn", loading: "lazy" })];
  if (turn.role === "assistant" && turn.name && turn.name !== "thinking") return call(turn.content);
  if (turn.role === "tool") return [code(turn.content)];
  return markdown(turn.content);
}

function pictureOf(text) {
  const found = PICTURE.exec(text);
  if (found) return found[0];
  const raw = RAW_PICTURE.exec(text);
  return raw && `data:${raw[1]};base64,${raw[2]}`;
}

/** A tool call: an edit as a difference, other arguments by name. */
function call(text) {
  let fields;
  try {
    fields = JSON.parse(text);
  } catch {
    return [code(text)];
  }
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) return [code(text)];
  const edit = EDITS.find((names) => names.every((name) => typeof fields[name] === "string"));
  const parts = Object.entries(fields).filter(([name]) => !edit?.includes(name)).map(([name, value]) => argument(name, value));
  if (edit) parts.push(difference(...edit.map((name) => fields[name])));
  return parts.length ? parts : [code(text)];
}

function argument(name, value) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 1);
  const long = text.length > 80 || text.includes("\n");
  return h("div", { class: "argument" }, h("span", { class: "quiet" }, name), long ? code(text) : h("code", {}, text));
}

function difference(before, after) {
  const signed = (text, sign) => text.split("\n").map((line) => sign + line).join("\n");
  return h("pre", { class: "diff", tabindex: "0" }, diffLines(`${signed(before, "-")}\n${signed(after, "+")}`));
}
