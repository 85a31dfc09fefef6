// The control for a token budget: a slider over sizes that models' contexts have room for.

import { h, tokens } from "./dom.js";

const BUDGETS = [500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 20_000, 32_000, 64_000];
const nearest = (budget) => BUDGETS.reduce((best, one, at) => (Math.abs(one - budget) < Math.abs(BUDGETS[best] - budget) ? at : best), 0);

/** Returns the control's elements, and what reads it. onChange: called when another budget was chosen. */
export function budgetControl(first, onChange) {
  const slider = h("input", { type: "range", id: "budget", min: "0", max: String(BUDGETS.length - 1), value: String(nearest(first)) });
  const shown = h("output", { for: "budget" });
  const draw = () => {
    shown.textContent = tokens(BUDGETS[slider.value]);
    slider.setAttribute("aria-valuetext", shown.textContent);
  };
  slider.addEventListener("input", draw);
  slider.addEventListener("change", onChange);
  draw();
  return { elements: [h("label", { for: "budget" }, "Budget"), slider, shown], value: () => BUDGETS[slider.value] };
}
