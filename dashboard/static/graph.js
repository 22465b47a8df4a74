// The graph of an order's progress: the orchestrator's steps beside their compensations, or choreography's reactions.
import { el, svg } from "./dom.js";
import { head } from "./draw.js";
import { ended, isEscalation } from "./words.js";

export const STATE_LOOKS = {
  idle: ["○", "not reached"],
  running: ["▸", "running"],
  waiting: ["‖", "waiting"],
  done: ["✓", "done"],
  compensated: ["↩", "compensated"],
  failed: ["✕", "failed"],
  overtaken: ["–", "overtaken"],
};
/** Seconds without an answer after which a node counts as waiting. */
const WAITING_AFTER_S = 1;
/** Compensation -> the command that it undoes. The description of choreography does not contain it. */
const UNDOES = { ReleaseStock: "ReserveStock", VoidPayment: "AuthorizePayment", CancelDelivery: "ScheduleDelivery" };

/** The nodes and edges of one order. A node: {key, service, on, name, back, row, state}. An edge: {from, to, back, dim}. */
export function graphOf(lane, order, now) {
  return lane.steps ? orchestrated(lane.steps, order, now) : choreographed(lane.reactions, order, now);
}

function orchestrated(steps, order, now) {
  const back = order.entries.some((entry) => entry.name === "RejectOrder");
  const row = (command, answers, refused, service, more) => ({
    key: command,
    name: command,
    service,
    state: stateOf(order, now, (entry) => entry.name === command, answers, refused),
    ...more,
  });
  const nodes = [row("PlaceOrder", ["OrderPlaced"], "OrderRejected", "order", { row: 0, back: false })];
  steps.forEach((step, index) => {
    nodes.push(row(step.command, [step.success], step.refused, step.service, { row: index + 1, back: false, kind: step.kind }));
    if (step.undo)
      nodes.push(
        row(step.undo, step.kind === "pivot" ? [step.undone, step.success] : [step.undone], null, step.service, {
          row: index + 1,
          back: true,
        }),
      );
  });
  nodes.push(row("RejectOrder", ["OrderRejected"], null, "order", { row: 0, back: true }));
  markCompensated(nodes, order);
  const byNumber = (number) => order.entries[number - 1];
  const taken = order.entries
    .filter((entry) => entry.command && entry.sender === "coordinator")
    .map((entry) => ({
      from: byNumber(byNumber(entry.cause)?.cause)?.name ?? "PlaceOrder",
      to: entry.name,
      back: entry.rollback,
    }));
  const chain = [...Array(steps.length).keys()].map((index) => ({
    from: index ? steps[index - 1].command : "PlaceOrder",
    to: steps[index].command,
    dim: true,
  }));
  const undoing = ["RejectOrder", ...steps.filter((step) => step.undo).map((step) => step.undo)];
  const returning = undoing.slice(1).map((undo, index) => ({ from: undo, to: undoing[index], dim: true, back: true }));
  const refusals = steps
    .filter((step) => step.refused)
    .map((step, index) => ({ from: step.command, to: undoing[index], dim: true, back: true }));
  return { nodes, edges: [...chain, ...returning, ...refusals, ...taken], command: true, back };
}

function choreographed(reactions, order, now) {
  const key = (when, does) => `${when}/${does}`;
  const nodes = [
    {
      key: "start",
      name: "PlaceOrder",
      service: "order",
      row: 0,
      back: false,
      state: stateOf(order, now, (entry) => entry.name === "PlaceOrder", ["OrderPlaced"], "OrderRejected"),
    },
  ];
  const rows = { true: 0, false: 1 };
  for (const { when, by, does, rollback } of reactions) {
    const answered = order.entries.filter(
      (entry) => entry.deed === does && order.entries[entry.cause - 1]?.name === when && !isEscalation(entry),
    );
    const refused = !rollback && answered.some((entry) => entry.rollback);
    const trigger = order.entries.find((entry) => entry.name === when && entry.takers.includes(by));
    const state = answered.length ? (refused ? "failed" : "done") : trigger ? unanswered(order, now, trigger) : "idle";
    nodes.push({ key: key(when, does), name: does, service: by, on: when, row: rows[rollback]++, back: rollback, state });
  }
  markCompensated(nodes, order);
  const nodeOf = (entry) =>
    entry?.deed && entry.cause && order.entries[entry.cause - 1].name !== "PlaceOrder"
      ? key(order.entries[entry.cause - 1].name, entry.deed)
      : "start";
  const known = new Set(nodes.map((node) => node.key));
  const edges = order.entries
    .filter((entry) => entry.deed && known.has(nodeOf(entry)) && nodeOf(entry) !== "start")
    .map((entry) => ({
      from: nodeOf(order.entries[entry.cause - 1]),
      to: nodeOf(entry),
      back: order.entries[entry.cause - 1].rollback,
    }));
  return { nodes, edges, command: false };
}

/** The state of a command, which may have been sent more than once: an answer to any of the copies counts. */
function stateOf(order, now, isSent, answers, refused) {
  const sent = order.entries.filter(isSent);
  if (!sent.length) return "idle";
  const numbers = sent.map((entry) => entry.number);
  const answer = order.entries.find((entry) => numbers.includes(entry.cause) && [...answers, refused].includes(entry.name));
  if (answer) return answer.name === refused ? "failed" : "done";
  return unanswered(order, now, sent.at(-1));
}

function unanswered(order, now, entry) {
  if (entry.dead) return "failed";
  if (order.partial) return "running";
  if (order.state === "NEEDS_ATTENTION") return "failed";
  if (ended(order)) return "overtaken";
  return entry.attempts > 1 || now - entry.at > WAITING_AFTER_S ? "waiting" : "running";
}

function markCompensated(nodes, order) {
  const shown = order.entries.length;
  const compensated = order.undone.filter((one) => one.had_effect && one.entry <= shown).map((one) => UNDOES[one.command]);
  for (const node of nodes) {
    if (node.state !== "done") continue;
    if (!node.back && compensated.includes(node.name)) node.state = "compensated";
    const undone = node.back && order.undone.find((one) => one.command === node.name && one.entry <= shown);
    if (undone) node.look = undone.had_effect ? ["↩", "undone"] : ["–", "nothing was held"];
  }
}

const lookOf = (node) => node.look ?? STATE_LOOKS[node.state];

// --- drawing ----------------------------------------------------------------------------------------------------------------

/** The graph as SVG, and as a list for screen readers. */
export function drawGraph(lane, order, width, now) {
  const { nodes, edges, command } = graphOf(lane, order, now);
  const narrow = width < 420;
  const size = { w: Math.min(220, (width - (narrow ? 44 : 76)) / 2), h: command ? 62 : 76, gap: 26, indent: narrow ? 5 : 12 };
  const rows = Math.max(...nodes.map((node) => node.row)) + 1;
  const height = 26 + rows * (size.h + size.gap);
  const left = narrow ? 2 : 20;
  const right = Math.min(width - size.w - 20, left + size.w * 1.7 + 60);
  const place = (node) => ({ x: node.back ? right : left, y: 26 + node.row * (size.h + size.gap) });
  const drawing = svg("svg", {
    class: narrow ? "graph narrow" : "graph",
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    "aria-hidden": "true",
  });
  drawing.append(
    svg("text", { class: "column", x: left, y: 14 }, "forward"),
    svg("text", { class: "column", x: right, y: 14 }, "↩ compensation"),
  );
  const find = (key) => nodes.find((node) => node.key === key);
  for (const edge of edges) {
    const [from, to] = [find(edge.from), find(edge.to)];
    if (from && to) drawing.append(drawEdge(edge, from, to, place, size, command));
  }
  for (const node of nodes) drawing.append(drawNode(node, place(node), size));
  const states = nodes
    .filter((node) => node.state !== "idle")
    .map((node) => el("li", {}, `${node.name} (${node.service}): ${lookOf(node)[1]}`));
  const note = command
    ? "The whole graph is defined in one place, orchestrator/fulfilment.py. Grey arrows are possible transitions."
    : "No service knows the whole graph: each knows its own lines of choreography/reactions.py. Arrows appear with their events.";
  return [drawing, el("ol", { class: "spoken" }, states), el("p", { class: "muted note" }, note)];
}

function drawNode(node, { x, y }, { w, h, indent }) {
  const [icon, word] = lookOf(node);
  const group = svg("g", { class: `node ${node.state}${node.back ? " back" : ""}`, "data-node": node.key });
  group.append(svg("rect", { x, y, width: w, height: h, rx: 8 }));
  const lines = [
    node.on ? ["on", `on ${node.on}`] : null,
    ["name", node.name],
    ["service", node.service + (node.kind === "pivot" ? " · pivot" : "")],
    ["state", `${icon} ${word}`],
  ].filter(Boolean);
  const pitch = (h - 8) / lines.length;
  lines.forEach(([kind, text], index) =>
    group.append(svg("text", { class: kind, x: x + indent, y: y + pitch * (index + 0.5) + 8 }, text)),
  );
  return group;
}

function drawEdge(edge, from, to, place, { w, h, gap }, command) {
  const [a, b] = [place(from), place(to)];
  const group = svg("g", {
    class: `edge ${command ? "command" : "event"}${edge.back ? " rollback" : ""}${edge.dim ? " dim" : ""}`,
  });
  let [d, tip] = ["", null];
  if (from.back !== to.back) {
    const [x1, y1, x2, y2] = [a.x + w, a.y + h / 2, b.x, b.y + h / 2];
    d = `M${x1},${y1} C${x1 + 30},${y1} ${x2 - 34},${y2} ${x2 - 6},${y2}`;
    tip = head(x2 - 1, y2, 0, command);
  } else if (Math.abs(from.row - to.row) === 1) {
    const down = to.row > from.row;
    const [x, y1, y2] = [a.x + w / 2, down ? a.y + h : a.y, down ? b.y : b.y + h];
    d = `M${x},${y1} L${x},${down ? y2 - 6 : y2 + 6}`;
    tip = head(x, down ? y2 - 1 : y2 + 1, down ? Math.PI / 2 : -Math.PI / 2, command);
  } else {
    const [x, y1, y2] = [a.x + w, a.y + h / 2, b.y + h / 2 + gap / 4];
    d = `M${x},${y1} C${x + 22},${y1} ${x + 22},${y2} ${x + 6},${y2}`;
    tip = head(x + 1, y2, Math.PI, command);
  }
  group.append(svg("path", { class: "shaft", d }), tip);
  return group;
}
