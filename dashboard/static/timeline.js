// The timeline of an order: a bar to scale from the cause of each message to the message, waits hatched, compensation below.
import { el } from "./dom.js";
import { kindOf, nameOf, rootMark } from "./draw.js";
import { seconds } from "./words.js";

/** Seconds from an order's first message to its last, or to now while it waits for a worker. */
export function spanOf(order, now) {
  const last = order.entries.reduce((latest, entry) => Math.max(latest, entry.at), order.moved_at);
  const end = order.took_s === null && order.waiting.length ? Math.max(now, last) : last;
  return Math.max(end - order.began_at, 0.001);
}

/** `total`: seconds that the whole width represents, the same in every lane. */
export function timelineOf(order, now, total) {
  const start = order.began_at;
  const rows = order.entries.map((entry) => row(entry, order, start, total));
  const of = (rollback) => rows.filter((_, index) => order.entries[index].rollback === rollback);
  const waiting = order.waiting.map((one) => waitingRow(one, start, total, now));
  const sections = [section("Forward", of(false))];
  if (of(true).length) sections.push(section("↩ Compensation", of(true)));
  if (waiting.length) sections.push(section("‖ Waiting now", waiting));
  const scale = el("p", { class: "scale" }, el("span", {}, "0"), el("span", {}, seconds(total)));
  return [scale, ...sections];
}

const section = (title, rows) => el("section", {}, el("h4", {}, title), el("ol", { class: "bars" }, rows));

function row(entry, order, start, total) {
  const cause = order.entries[entry.cause - 1];
  const from = cause ? cause.at : entry.at;
  const notes = [
    entry.wait,
    entry.dead && `✕ dead letter: ${entry.dead}`,
    entry.attempts > 1 && !entry.wait && `${entry.attempts} attempts`,
  ];
  const mark = rootMark(order, entry);
  return bar({
    kind: `${kindOf(entry)}${entry.wait ? " wait" : ""}${mark ? ` ${mark.kind}` : ""}`,
    title: nameOf(entry, mark),
    about: entry.deed && entry.deed !== entry.name ? `${entry.sender}, by ${entry.deed}` : entry.sender,
    time: cause ? seconds(entry.since_cause_s) : "start",
    notes: notes.filter(Boolean),
    left: (from - start) / total,
    width: (entry.at - from) / total,
  });
}

function waitingRow(one, start, total, now) {
  const width = Math.max(0, now - one.since) / total;
  return bar({
    kind: "wait",
    title: one.deed,
    about: one.worker,
    time: seconds(Math.max(0, now - one.since)),
    notes: [],
    left: (one.since - start) / total,
    width,
  });
}

function bar({ kind, title, about, time, notes, left, width }) {
  const filling = el("span", { class: "bar" });
  filling.style.left = `${(100 * Math.min(left, 0.995)).toFixed(2)}%`;
  filling.style.width = `${(100 * width).toFixed(2)}%`;
  return el(
    "li",
    { class: kind },
    el("span", { class: "what" }, el("strong", {}, title), ` ${about}`),
    el("span", { class: "time" }, time),
    el("span", { class: "track", "aria-hidden": "true" }, filling),
    notes.map((note) => el("span", { class: "wait-note" }, note)),
  );
}
