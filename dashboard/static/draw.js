// Shapes that the path and the graph share. Commands have filled heads, events hollow ones, rollbacks a square tail.
import { svg } from "./dom.js";
import { isEscalation } from "./words.js";

/** An arrowhead at (x, y) that points along `angle` (radians). */
export function head(x, y, angle, command) {
  const at = (distance, turn) => `${x - distance * Math.cos(angle + turn)},${y - distance * Math.sin(angle + turn)}`;
  return svg("polygon", { class: command ? "head solid" : "head hollow", points: `${x},${y} ${at(9, 0.45)} ${at(9, -0.45)}` });
}

export function tail(x, y) {
  return svg("rect", { class: "tail", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
}

/** A text centred at `x`, shifted if necessary so that it stays within `width`. */
export function label(text, x, y, width, attributes = {}) {
  const half = text.length * 3.6 + 4;
  const centre = Math.max(half, Math.min(width - half, x));
  return svg("text", { x: centre, y, "text-anchor": "middle", ...attributes }, text);
}

/** The mark of an order's root message: the cause of its failure, or the message whose reply is awaited. Null for others. */
export function rootMark(order, entry) {
  if (entry.number !== order.root || order.state === "COMPLETED") return null;
  return order.state === "REJECTED" || order.state === "NEEDS_ATTENTION"
    ? { icon: "✕", kind: "root" }
    : { icon: "‖", kind: "root awaited" };
}

/** The CSS classes of an entry. */
export function kindOf(entry) {
  return `${entry.command ? "command" : "event"}${entry.rollback ? " rollback" : ""}${isEscalation(entry) ? " help" : ""}`;
}

/** The name of an entry behind its marks; `mark` comes from `rootMark`. */
export function nameOf(entry, mark = null) {
  return [mark?.icon ?? (isEscalation(entry) && "!"), entry.rollback && "↩", entry.name].filter(Boolean).join(" ");
}
