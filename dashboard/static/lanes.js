// The lanes: the selected order in each mode, and below it the list of orders to select from.
import { el, keyed, setText } from "./dom.js";
import { now, openOrdersByWorker, ordersOf, sortedOrders } from "./feed.js";
import { drawGraph } from "./graph.js";
import { showMessages } from "./messages.js";
import { pathOf } from "./path.js";
import { hashOf } from "./route.js";
import { spanOf, timelineOf } from "./timeline.js";
import { count, ended, overdueWorkers, plain, seconds, settled, STATES, styleSummary, TITLES, titleOf, undone } from "./words.js";

/** Maximum rows of a list. */
const ROWS = 50;

export function laneOf(lane) {
  const titles = TITLES[lane.mode] ?? { name: lane.mode, idea: "" };
  const verdict = el("div", { class: "verdict" });
  const view = el("div", { class: "view" });
  const node = el(
    "article",
    { class: "lane", "data-mode": lane.mode, "aria-label": titles.name },
    el("h2", {}, titles.name),
    el("p", { class: "muted idea" }, titles.idea),
    verdict,
    view,
  );
  return { lane, node, verdict, view, drawn: null };
}

/** An order without messages: its graph shows the sequence as defined. */
const NO_MESSAGES = { entries: [], undone: [], waiting: [], state: "ACCEPTED" };

/** Draws the lane before the first order. */
export function updateIdle(part) {
  const width = Math.floor(part.view.clientWidth) || 300;
  if (part.drawn?.idle === width) return;
  part.drawn = { idle: width };
  part.verdict.replaceChildren();
  part.view.replaceChildren(...drawGraph(part.lane, NO_MESSAGES, width, 0));
}

/** Redraws the lane if something changed. `orders`: the order in every lane. `shown`: number of its messages to show. */
export function updateLane(part, state, order, orders, viewName, shown) {
  const { lane, verdict, view } = part;
  if (!order) {
    part.drawn = null;
    verdict.replaceChildren();
    view.replaceChildren(el("p", { class: "muted" }, "No message of this order was observed in this mode."));
    return;
  }
  const time = now(state);
  const tick = ended(order) ? 0 : Math.floor(time);
  const busy = openOrdersByWorker(state, lane.mode);
  const width = Math.floor(view.clientWidth) || 300;
  const scale = Math.max(...orders.map((one) => spanOf(one, Math.ceil(time))));
  const drawn = { order, viewName, shown, tick, width, busy: [...busy].join(), scale: viewName === "timeline" && scale };
  const same = part.drawn && Object.keys(drawn).every((key) => drawn[key] === part.drawn[key]);
  if (same) return;
  const before =
    part.drawn?.order?.order_id === order.order_id && part.drawn.viewName === viewName
      ? Math.min(part.drawn.shown, part.drawn.order.entries.length)
      : Infinity;
  part.drawn = drawn;
  verdict.replaceChildren(...verdictOf(order, time));
  const partial = shown < order.entries.length;
  verdict.classList.toggle("ahead", partial && viewName !== "messages");
  view.className = `view ${viewName}`;
  if (viewName === "messages") {
    showMessages(view, order);
    return;
  }
  delete view.dataset.requested;
  const visible = partial ? { ...order, entries: order.entries.slice(0, shown), waiting: [], partial } : order;
  const drawing = {
    path: () => pathOf(lane, visible, width, busy, before + 1),
    graph: () => drawGraph(lane, visible, width, time),
    timeline: () => timelineOf(visible, time, scale),
  };
  const content = visible.entries.length ? drawing[viewName]() : [el("p", { class: "muted" }, "…")];
  view.replaceChildren(...content.filter(Boolean));
}

function verdictOf(order, time) {
  const { icon, word, tone } = STATES[order.state] ?? { icon: "?", word: order.state, tone: "run" };
  const reason = order.reason ? `: ${plain(order.reason)}` : "";
  const style = styleSummary(order);
  const facts = [
    ["Messages", String(order.entries.length)],
    ["Time", ended(order) ? seconds(order.took_s) : `${seconds(Math.max(0, time - order.began_at))} so far`],
    ["Undone", undone(order)],
  ];
  const waiting = overdueWorkers(order, time);
  return [
    el(
      "h3",
      { class: `end ${tone}` },
      el("span", { class: "icon", "aria-hidden": "true" }, icon),
      ` ${word}${reason}`,
      order.stuck && order.state !== "NEEDS_ATTENTION" && el("span", { class: "stuck" }, " ‖ stuck"),
    ),
    el("p", { class: "why" }, el("strong", {}, settled(order) ? "Why: " : "Now: "), order.why),
    order.state === "NEEDS_ATTENTION" &&
      el(
        "p",
        { class: "bad" },
        "An operator must act: ",
        el("code", {}, `saga order redrive ${order.order_id} -m ${order.mode}`),
        " on a running system.",
      ),
    style && el("p", { class: "style" }, el("strong", {}, "How: "), style),
    el(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
    ),
    waiting && el("p", { class: "waiting" }, `‖ Waiting: ${waiting}`),
    order.remains.length > 0 &&
      el(
        "p",
        { class: "muted" },
        `Still to come: ${order.remains.join(", ")}${order.remains_note ? ` (${order.remains_note})` : ""}`,
      ),
    ...order.gaps.map((gap) => el("p", { class: "gap" }, `? ${gap}`)),
  ].filter(Boolean);
}

// --- lists ------------------------------------------------------------------------------------------------------------------

export function listOf(lane) {
  const title = el("h2", {}, "");
  const rows = el("ol", { class: "orders" });
  const more = el("p", { class: "muted" });
  return { lane, node: el("article", { class: "list", "data-mode": lane.mode }, title, rows, more), title, rows, more };
}

export function updateList(part, state, chosen, view) {
  const { mode } = part.lane;
  const all = sortedOrders(state, mode);
  setText(part.title, `${titleOf(mode)}: ${count(all.length, "order")}`);
  setText(
    part.more,
    all.length > ROWS ? `The newest ${ROWS} of ${all.length}; those that need attention first.` : all.length ? "" : "None yet.",
  );
  const make = () =>
    el(
      "li",
      {},
      el(
        "a",
        {},
        el("span", { class: "end" }),
        el("span", { class: "wanted" }),
        el("span", { class: "failure" }),
        el("span", { class: "size" }),
      ),
    );
  keyed(
    part.rows,
    all.slice(0, ROWS),
    (order) => order.order_id,
    make,
    (node, order) => updateRow(node, order, chosen, view),
  );
}

function updateRow(node, order, chosen, view) {
  const [link] = node.children;
  const { icon, word, tone } = STATES[order.state] ?? { icon: "?", word: order.state, tone: "run" };
  const [end, wanted, failure, size] = link.children;
  const href = hashOf(order.mode, order.order_id, view);
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
  end.className = `end ${order.stuck ? "bad" : tone}`;
  setText(end, `${icon} ${word}${order.stuck && order.state !== "NEEDS_ATTENTION" ? ", stuck" : ""}`);
  setText(wanted, order.wanted ?? "");
  setText(failure, order.injected ?? "");
  setText(size, count(order.entries.length, "message"));
  if (order.order_id === chosen) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** An order in one lane; undefined if that lane has not delivered it. */
export const orderIn = (state, mode, id) => ordersOf(state, mode).get(id);
