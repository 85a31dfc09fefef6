// Removes the content of a turn for good: asks first, names the copies, and shows the receipt.

import { change, conversationPath, read } from "./api.js";
import { askFirst } from "./dialog.js";
import { count, h } from "./dom.js";

export async function redactTurn(id, turn) {
  const { copies, quoted_in: quoting } = await read(conversationPath(id, `/turns/${turn.id}/copies`));
  const others = copies.length - 1;
  askFirst({
    title: `Redact ${turn.id}`,
    button: "Redact",
    content: copies.length
      ? [
          h("p", {}, `Its content${others > 0 ? `, and that of ${count(others, "same turn")} in other branches and conversations,` : ""} is removed from every file. The ids stay. This can't be undone.`),
          quoting.length > 0 && h("p", {}, "It is also quoted in these turns, which stay:"),
          quoting.length > 0 && h("ul", {}, quoting.slice(0, 10).map((place) => h("li", {}, place))),
        ]
      : [h("p", {}, "It is redacted already.")],
    act: async () => {
      const receipt = await change(conversationPath(id, "/redact"), { turn_id: turn.id });
      const turns = Object.values(receipt.turns).flat().length;
      return {
        title: "Redacted",
        content: [
          h("p", {}, `${count(turns, "turn")} in ${count(Object.keys(receipt.turns).length, "conversation")}, ${count(receipt.bytes, "byte")}.`),
          h("ul", {}, [...receipt.checked, ...receipt.warnings].map((line) => h("li", {}, line))),
          h("p", {}, "Agents' own transcripts and copies elsewhere are not changed. Change a password or key all the same."),
        ],
        after: () => window.dispatchEvent(new Event("hashchange")),
      };
    },
  });
}
