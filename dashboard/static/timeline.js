// How long everything took: a bar for each message from its cause to itself, true to scale, waits hatched, compensation below.
import { el } from "./dom.js";
import { kindOf, nameOf, rootMark } from "./draw.js";
import { seconds } from "./words.js";

/** Seconds from an order's first message to its last, or to now while somebody is waited for. */
export function spanOf(told, now) {
  const last = told.entries.reduce((latest, entry) => Math.max(latest, entry.at), told.moved_at);
  const end = told.took_s === null && told.waiting.length ? Math.max(now, last) : last;
  return Math.max(end - told.began_at, 0.001);
}

/** `total`: the seconds that the whole width stands for, the same in every lane. */
export function timelineOf(told, now, total) {
  const start = told.began_at;
  const rows = told.entries.map((entry) => row(entry, told, start, total));
  const of = (rollback) => rows.filter((_, index) => told.entries[index].rollback === rollback);
  const waiting = told.waiting.map((one) => waitingRow(one, start, total, now));
  const sections = [section("Forward", of(false))];
  if (of(true).length) sections.push(section("↩ Compensation", of(true)));
  if (waiting.length) sections.push(section("‖ Waiting now", waiting));
  const scale = el("p", { class: "scale" }, el("span", {}, "0"), el("span", {}, seconds(total)));
  return [scale, ...sections];
}

const section = (title, rows) => el("section", {}, el("h4", {}, title), el("ol", { class: "bars" }, rows));

function row(entry, told, start, total) {
  const cause = told.entries[entry.cause - 1];
  const from = cause ? cause.at : entry.at;
  const notes = [
    entry.wait,
    entry.dead && `✕ dead letter: ${entry.dead}`,
    entry.attempts > 1 && !entry.wait && `${entry.attempts} attempts`,
  ];
  const mark = rootMark(told, entry);
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
