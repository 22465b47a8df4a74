// The path of one order through one mode: services as columns, every message an arrow, from top to bottom.
import { el, svg } from "./dom.js";
import { head, kindOf, label, nameOf, rootMark, tail } from "./draw.js";

const [HEAD, ROW, MOST] = [58, 36, 60];

/** `busy`: worker -> how many open orders wait for it. `fresh`: entries from this number on come in one after the other. */
export function pathOf(lane, told, width, busy, fresh) {
  const entries = told.entries.slice(0, MOST);
  const columns = [...new Set([...lane.columns, ...entries.flatMap((entry) => [entry.sender, ...entry.takers])])];
  const step = width / columns.length;
  const x = Object.fromEntries(columns.map((name, index) => [name, (index + 0.5) * step]));
  const height = HEAD + ROW * Math.max(entries.length, 3) + 12;
  const narrow = step < 84;
  const drawing = svg("svg", { class: "path", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  columns.forEach((name, index) => {
    const y = narrow && index % 2 ? 32 : 16;
    drawing.append(svg("line", { class: "life", x1: x[name], x2: x[name], y1: y + 8, y2: height }));
    drawing.append(label(name, x[name], y, width, { class: "column" }));
    if (busy.get(name)) drawing.append(label(`${busy.get(name)} here`, x[name], narrow ? 48 : 32, width, { class: "busy" }));
  });
  entries.forEach((entry, index) =>
    drawing.append(arrow(entry, x, HEAD + ROW * index + 12, width, rootMark(told, entry), fresh)),
  );
  const more = told.entries.length - entries.length;
  return [drawing, spoken(entries), more > 0 && el("p", { class: "muted" }, `and ${more} more: see the messages`)];
}

function arrow(entry, x, y, width, mark, fresh) {
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
  const said = [mark?.icon, nameOf(entry), entry.attempts > 1 && `×${entry.attempts}`, entry.dead && "(dead letter)"];
  group.append(label(said.filter(Boolean).join(" "), middle, y - 2, width));
  return group;
}

function straight(from, to, y, taker, entry) {
  const [right, line] = [to > from, svg("line", { class: "shaft", x1: from, x2: to, y1: y + 6, y2: y + 6 })];
  const end = taker
    ? head(to, y + 6, right ? 0 : Math.PI, entry.command)
    : svg("circle", { class: "nobody", cx: to, cy: y + 6, r: 4 });
  return { shapes: [line, end], middle: (from + to) / 2 };
}

function loop(from, y) {
  const curve = svg("path", { class: "shaft", d: `M${from},${y + 6} c34,-12 34,14 4,10` });
  return { shapes: [curve, head(from + 3, y + 16, Math.PI, false)], middle: from };
}

/** The same for those who do not see it. */
function spoken(entries) {
  const kind = (entry) => `${entry.rollback ? "rollback " : ""}${entry.command ? "command" : "event"}`;
  const takers = (entry) => entry.takers.join(" and ") || "nobody who must act";
  const said = (entry) => `${entry.name}: ${kind(entry)} from ${entry.sender} to ${takers(entry)}`;
  return el(
    "ol",
    { class: "spoken" },
    entries.map((entry) => el("li", {}, said(entry))),
  );
}
