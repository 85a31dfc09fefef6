// The control for a moment of a branch: a slider over its turns.

import { conversationPath, read } from "./api.js";
import { h, number } from "./dom.js";

/** Returns the control's elements; `turnId` returns the turn up to which to read, empty for now.
 *
 * branch: the branch's `turn_id` and its number of `turns`. tip: what `turnId` returns for the branch's end.
 * share: where the slider is at first, 0 to 1.
 */
export function momentControl(id, branch, name, label, onChange, { tip = "", share = 1 } = {}) {
  const last = branch.turns - 1;
  const slider = h("input", { type: "range", id: name, min: "0", max: String(last), value: String(Math.round(share * last)) });
  const shown = h("output", { for: name });
  const isNow = () => Number(slider.value) === last;
  const draw = () => {
    shown.textContent = isNow() ? "now" : `turn ${number(Number(slider.value))}`;
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  slider.addEventListener("input", draw);
  slider.addEventListener("change", onChange);
  draw();
  return {
    elements: [h("label", { for: name }, label), slider, shown],
    text: () => shown.textContent,
    async turnId() {
      if (isNow()) return tip;
      const { turns } = await read(conversationPath(id, "/turns"), { first: slider.value, last: slider.value, turn: branch.turn_id });
      return turns[0]?.id ?? tip;
    },
  };
}
