// Every message of an order as it travelled: properties, headers and body. The one that it all goes back to comes first.
import { el } from "./dom.js";
import { kindOf, nameOf, rootMark } from "./draw.js";
import { ask } from "./feed.js";
import { seconds } from "./words.js";

/** Fills `box` with the order's messages; keeps what is open. Gives up quietly when something newer was asked for. */
export async function showMessages(box, told) {
  const asked = `${told.mode}/${told.order_id}/${told.entries.length}`;
  if (box.dataset.asked === asked) return;
  box.dataset.asked = asked;
  try {
    const answer = await ask(`/watch/orders/${encodeURIComponent(told.mode)}/${encodeURIComponent(told.order_id)}`);
    if (box.dataset.asked === asked) fill(box, answer);
  } catch (error) {
    if (box.dataset.asked === asked) box.replaceChildren(el("p", {}, `These messages cannot be had: ${error.message}`));
  }
}

function fill(box, told) {
  const open = new Set([...box.querySelectorAll(".all > details[open]")].map((one) => one.dataset.number));
  const messages = new Map(told.messages.map((message) => [message.number, message]));
  const card = (entry, opened) => messageOf(entry, messages.get(entry.number), opened);
  const root = told.entries.find((entry) => rootMark(told, entry));
  box.replaceChildren(
    ...(root ? [headingOf(rootMark(told, root)), card(root, true)] : []),
    el("h4", {}, "All, in the order of cause and time"),
    el(
      "div",
      { class: "all" },
      told.entries.map((entry) => card(entry, open.has(String(entry.number)))),
    ),
  );
}

function headingOf({ icon, kind }) {
  const said = kind === "root" ? "It all goes back to this one" : "Waiting for an answer to this one";
  return el("h4", { class: "error-first" }, `${icon} ${said}`);
}

function messageOf(entry, message, open) {
  const way = `${entry.sender} → ${entry.takers.join(" + ") || "nobody who must act"}`;
  const summary = el(
    "summary",
    {},
    el("span", { class: "muted" }, `#${entry.number}`),
    " ",
    el("strong", { class: kindOf(entry) }, nameOf(entry)),
    " ",
    el("span", { class: "muted" }, `${way} · +${seconds(entry.since_start_s)}`),
  );
  if (!message) return el("details", { "data-number": entry.number, open }, summary, el("p", {}, "Not kept."));
  return el(
    "details",
    { class: "message", "data-number": entry.number, open },
    summary,
    entry.cause &&
      el(
        "p",
        { class: "muted" },
        `because of #${entry.cause}`,
        entry.attempts > 1 && `, ${entry.attempts} attempts`,
        entry.dead && `, dead letter: ${entry.dead}`,
      ),
    table("Properties", message.properties),
    table("Headers", message.headers),
    el("h5", {}, "Body"),
    el("pre", { tabindex: "0" }, JSON.stringify(message.body, null, 2) + (message.cut ? "\n… cut" : "")),
  );
}

function table(title, values) {
  const rows = Object.entries(values).map(([name, value]) => [
    el("dt", {}, name),
    el("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  return rows.length ? [el("h5", {}, title), el("dl", { class: "values" }, rows)] : null;
}
