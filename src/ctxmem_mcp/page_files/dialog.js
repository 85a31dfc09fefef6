// A dialog that asks before something is removed, and shows what was.

import { h } from "./dom.js";

/** Shows the question; `act` removes, and answers with the receipt: its title, its content, and what to do after it was read. */
export function askFirst({ title, content, button, act }) {
  const dialog = h("dialog", { class: "ask-first", "aria-label": title });
  const close = () => dialog.close();
  const remove = h("button", { class: "danger" }, button);
  const failure = h("p", { class: "notice", role: "alert", hidden: true });
  const submit = async (event) => {
    event.preventDefault();
    remove.disabled = true;
    try {
      const receipt = await act();
      dialog.replaceChildren(h("h2", {}, receipt.title), ...receipt.content, h("button", { onclick: close }, "Close"));
      dialog.addEventListener("close", receipt.after);
    } catch (error) {
      failure.textContent = error.message;
      failure.hidden = false;
      remove.disabled = false;
    }
  };
  dialog.append(h("h2", {}, title), h("form", { onsubmit: submit }, content, failure,
    h("div", { class: "row" }, remove, h("button", { type: "button", onclick: close }, "Cancel"))));
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
}
