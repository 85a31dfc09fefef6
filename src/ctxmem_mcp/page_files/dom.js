// Builds elements. Text is always set as text, so nothing that is stored can become markup.

/** Returns an element. Attributes: `class`, `on*` handlers, properties such as `hidden`, anything else as attribute. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Returns an SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Replaces what an element contains. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter(Boolean));
  return element;
}

/** Says something to the user, and to screen readers. */
export function say(text) {
  document.getElementById("status").textContent = text;
}

export const number = (value) => value.toLocaleString("en");

export function count(value, noun) {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function tokens(value) {
  if (value >= 1_000_000) return `${(value / 1e6).toFixed(1)}M tokens`;
  return value < 10_000 ? `${number(value)} tokens` : `${number(Math.round(value / 1_000))}k tokens`;
}

export function day(iso) {
  return iso ? iso.slice(0, 16).replace("T", " ") : "";
}

/** Copies a text and says so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    say("The browser does not allow copying here.");
  }
}
