// The path of one order through one mode: services as columns, every message an arrow, from top to bottom.
import { el, svg } from "./dom.js";
import { head, kindOf, label, nameOf, rootMark, tail } from "./draw.js";

const [HEAD, ROW, ROWS_MAX] = [58, 36, 60];

/** `busy`: worker -> number of open orders that wait for it. `fresh`: entries from this number on are animated. */
export function pathOf(lane, order, width, busy, fresh) {
  const runs = runsOf(order);
  const rows = runs.slice(0, ROWS_MAX);
  const columns = [...new Set([...lane.columns, ...rows.flatMap(({ entry }) => [entry.sender, ...entry.takers])])];
  const step = width / columns.length;
  const x = Object.fromEntries(columns.map((name, index) => [name, (index + 0.5) * step]));
  const height = HEAD + ROW * Math.max(rows.length, 3) + 12;
  const narrow = step < 84;
  const drawing = svg("svg", { class: "path", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  columns.forEach((name, index) => {
    const y = narrow && index % 2 ? 32 : 16;
    drawing.append(svg("line", { class: "life", x1: x[name], x2: x[name], y1: y + 8, y2: height }));
    drawing.append(label(name, x[name], y, width, { class: "column" }));
    if (busy.get(name)) drawing.append(label(`${busy.get(name)} here`, x[name], narrow ? 48 : 32, width, { class: "busy" }));
  });
  rows.forEach((run, index) => drawing.append(arrow(run, x, HEAD + ROW * index + 12, width, fresh)));
  const more = runs.slice(ROWS_MAX).reduce((sum, { times }) => sum + times, 0);
  return [drawing, textAlternative(rows), more > 0 && el("p", { class: "muted" }, `and ${more} more: see the messages`)];
}

/** Consecutive messages of one type and sender as one row: {entry, times, mark}; `entry` is the last of them. */
function runsOf(order) {
  const runs = [];
  for (const entry of order.entries) {
    const last = runs.at(-1);
    const again = last && ["name", "sender", "dead"].every((part) => last.entry[part] === entry[part]);
    const mark = rootMark(order, entry);
    if (again) Object.assign(last, { entry, times: last.times + 1, mark: last.mark ?? mark });
    else runs.push({ entry, times: 1, mark });
  }
  return runs;
}

function arrow({ entry, times, mark }, x, y, width, fresh) {
  const group = svg("g", {
    class: `arrow ${kindOf(entry)}${entry.number >= fresh ? " fresh" : ""}`,
    "data-number": entry.number,
  });
  if (mark) group.append(svg("rect", { class: mark.kind, x: 1, y: y - 17, width: width - 2, height: ROW - 3, rx: 5 }));
  const from = x[entry.sender];
  const targets = entry.takers.length ? entry.takers : [null];
  let middle = from;
  for (const taker of targets) {
    const line =
      taker === entry.sender
        ? loop(from, y)
        : straight(from, taker ? x[taker] : from + (from > width / 2 ? -34 : 34), y, taker, entry);
    group.append(...line.shapes);
    middle = line.middle;
  }
  if (entry.rollback) group.append(tail(from, y + 6));
  const attempts = entry.attempts > 1 && `(${entry.attempts} attempts)`;
  const text = [nameOf(entry, mark), times > 1 && `x${times}`, attempts, entry.dead && "(dead letter)"];
  group.append(label(text.filter(Boolean).join(" "), middle, y - 2, width));
  return group;
}

function straight(from, to, y, taker, entry) {
  const [right, line] = [to > from, svg("line", { class: "shaft", x1: from, x2: to, y1: y + 6, y2: y + 6 })];
  const end = taker
    ? head(to, y + 6, right ? 0 : Math.PI, entry.command)
    : svg("circle", { class: "no-taker", cx: to, cy: y + 6, r: 4 });
  return { shapes: [line, end], middle: (from + to) / 2 };
}

function loop(from, y) {
  const curve = svg("path", { class: "shaft", d: `M${from},${y + 6} c34,-12 34,14 4,10` });
  return { shapes: [curve, head(from + 3, y + 16, Math.PI, false)], middle: from };
}

/** The path as a list for screen readers. */
function textAlternative(rows) {
  const kind = (entry) => `${entry.rollback ? "rollback " : ""}${entry.command ? "command" : "event"}`;
  const recipients = ({ takers }) => (takers.length ? ` to ${takers.join(" and ")}` : ", no worker acts on it");
  const text = ({ entry, times }) =>
    `${entry.name}${times > 1 ? `, ${times} times` : ""}: ${kind(entry)} from ${entry.sender}${recipients(entry)}`;
  return el(
    "ol",
    { class: "spoken" },
    rows.map((run) => el("li", {}, text(run))),
  );
}
