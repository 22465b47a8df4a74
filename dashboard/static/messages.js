// The messages of an order as they were sent: properties, headers and body. The root message comes first.
import { el } from "./dom.js";
import { kindOf, nameOf, rootMark } from "./draw.js";
import { request } from "./feed.js";
import { seconds } from "./words.js";

/** Fills `box` with the order's messages; opened ones stay open. A response that is no longer current is ignored. */
export async function showMessages(box, order) {
  const requested = `${order.mode}/${order.order_id}/${order.entries.length}`;
  if (box.dataset.requested === requested) return;
  box.dataset.requested = requested;
  try {
    const response = await request(`/watch/orders/${encodeURIComponent(order.mode)}/${encodeURIComponent(order.order_id)}`);
    if (box.dataset.requested === requested) fill(box, response);
  } catch (error) {
    if (box.dataset.requested === requested) box.replaceChildren(el("p", {}, `The messages cannot be loaded: ${error.message}`));
  }
}

function fill(box, order) {
  const open = new Set([...box.querySelectorAll(".all > details[open]")].map((one) => one.dataset.number));
  const messages = new Map(order.messages.map((message) => [message.number, message]));
  const card = (entry, opened) => messageOf(entry, messages.get(entry.number), opened);
  const root = order.entries.find((entry) => rootMark(order, entry));
  box.replaceChildren(
    ...(root ? [headingOf(rootMark(order, root)), card(root, true)] : []),
    el("h4", {}, "All messages, by cause and time"),
    el(
      "div",
      { class: "all" },
      order.entries.map((entry) => card(entry, open.has(String(entry.number)))),
    ),
  );
}

function headingOf({ icon, kind }) {
  const text = kind === "root" ? "Root cause" : "Waiting for an answer to this message";
  return el("h4", { class: "error-first" }, `${icon} ${text}`);
}

function messageOf(entry, message, open) {
  const route = `${entry.sender} → ${entry.takers.join(" + ") || "no worker acts on it"}`;
  const summary = el(
    "summary",
    {},
    el("span", { class: "muted" }, `#${entry.number}`),
    " ",
    el("strong", { class: kindOf(entry) }, nameOf(entry)),
    " ",
    el("span", { class: "muted" }, `${route} · +${seconds(entry.since_start_s)}`),
  );
  if (!message) return el("details", { "data-number": entry.number, open }, summary, el("p", {}, "The message was not stored."));
  return el(
    "details",
    { class: "message", "data-number": entry.number, open },
    summary,
    entry.cause &&
      el(
        "p",
        { class: "muted" },
        `caused by #${entry.cause}`,
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
