// Small shapes that the path and the graph share. Commands have filled heads, events hollow ones, rollbacks a square tail.
import { svg } from "./dom.js";
import { callsForHelp } from "./words.js";

/** An arrowhead at (x, y) that points along `angle` (radians). */
export function head(x, y, angle, command) {
  const at = (distance, turn) => `${x - distance * Math.cos(angle + turn)},${y - distance * Math.sin(angle + turn)}`;
  return svg("polygon", { class: command ? "head solid" : "head hollow", points: `${x},${y} ${at(9, 0.45)} ${at(9, -0.45)}` });
}

export function tail(x, y) {
  return svg("rect", { class: "tail", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
}

/** Text kept within `width`, whatever its length. */
export function label(text, x, y, width, attributes = {}) {
  const half = text.length * 3.6 + 4;
  const within = Math.max(half, Math.min(width - half, x));
  return svg("text", { x: within, y, "text-anchor": "middle", ...attributes }, text);
}

/** How the message is marked that an order goes back to: what went wrong, or what is waited for. */
export function rootMark(told, entry) {
  if (entry.number !== told.root || told.state === "COMPLETED") return null;
  return told.state === "REJECTED" || told.state === "NEEDS_ATTENTION"
    ? { icon: "✕", kind: "root" }
    : { icon: "‖", kind: "root awaited" };
}

/** The class of an entry, by what it is. */
export function kindOf(entry) {
  return `${entry.command ? "command" : "event"}${entry.rollback ? " rollback" : ""}${callsForHelp(entry) ? " help" : ""}`;
}

/** Its name with its marks, of which `mark` (see `rootMark`) is the first. */
export function nameOf(entry, mark = null) {
  return [mark?.icon ?? (callsForHelp(entry) && "!"), entry.rollback && "↩", entry.name].filter(Boolean).join(" ");
}
