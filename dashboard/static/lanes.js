// The two lanes: what each style did about the chosen order, and below them the orders to choose from.
import { el, keyed, say } from "./dom.js";
import { atWork, listed, now, ordersOf } from "./feed.js";
import { drawGraph } from "./graph.js";
import { showMessages } from "./messages.js";
import { pathOf } from "./path.js";
import { hashOf } from "./route.js";
import { spanOf, timelineOf } from "./timeline.js";
import { count, ended, plain, seconds, settled, STATES, TITLES, titleOf, undone, waitedFor, whatTheStyleDid } from "./words.js";

/** Rows of a list at most. */
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

/** An order of which nothing has happened: the graph as it is written down. */
const NOTHING = { entries: [], undone: [], waiting: [], state: "ACCEPTED" };

/** The lane before anything was ordered. */
export function updateIdle(part) {
  const width = Math.floor(part.view.clientWidth) || 300;
  if (part.drawn?.idle === width) return;
  part.drawn = { idle: width };
  part.verdict.replaceChildren();
  part.view.replaceChildren(...drawGraph(part.lane, NOTHING, width, 0));
}

/** Draws what differs from what is drawn. `tolds`: the order in every lane. `shown`: how many of its messages. */
export function updateLane(part, state, told, tolds, viewName, shown) {
  const { lane, verdict, view } = part;
  if (!told) {
    part.drawn = null;
    verdict.replaceChildren();
    view.replaceChildren(el("p", { class: "muted" }, "Nothing was heard of this order in this mode."));
    return;
  }
  const time = now(state);
  const tick = ended(told) ? 0 : Math.floor(time);
  const busy = atWork(state, lane.mode);
  const width = Math.floor(view.clientWidth) || 300;
  const scale = Math.max(...tolds.map((one) => spanOf(one, Math.ceil(time))));
  const drawn = { told, viewName, shown, tick, width, busy: [...busy].join(), scale: viewName === "timeline" && scale };
  const same = part.drawn && Object.keys(drawn).every((key) => drawn[key] === part.drawn[key]);
  if (same) return;
  const before =
    part.drawn?.told?.order_id === told.order_id && part.drawn.viewName === viewName
      ? Math.min(part.drawn.shown, part.drawn.told.entries.length)
      : Infinity;
  part.drawn = drawn;
  verdict.replaceChildren(...verdictOf(told, time));
  const partial = shown < told.entries.length;
  verdict.classList.toggle("ahead", partial && viewName !== "messages");
  view.className = `view ${viewName}`;
  if (viewName === "messages") {
    showMessages(view, told);
    return;
  }
  delete view.dataset.asked;
  const partly = partial ? { ...told, entries: told.entries.slice(0, shown), waiting: [], partial } : told;
  const drawing = {
    path: () => pathOf(lane, partly, width, busy, before + 1),
    graph: () => drawGraph(lane, partly, width, time),
    timeline: () => timelineOf(partly, time, scale),
  };
  const content = partly.entries.length ? drawing[viewName]() : [el("p", { class: "muted" }, "…")];
  view.replaceChildren(...content.filter(Boolean));
}

function verdictOf(told, time) {
  const { icon, word, tone } = STATES[told.state] ?? { icon: "?", word: told.state, tone: "run" };
  const reason = told.reason ? `: ${plain(told.reason)}` : "";
  const style = whatTheStyleDid(told);
  const facts = [
    ["Messages", String(told.entries.length)],
    ["Time", ended(told) ? seconds(told.took_s) : `${seconds(Math.max(0, time - told.began_at))} so far`],
    ["Undone", undone(told)],
  ];
  const waiting = waitedFor(told, time);
  return [
    el(
      "h3",
      { class: `end ${tone}` },
      el("span", { class: "icon", "aria-hidden": "true" }, icon),
      ` ${word}${reason}`,
      told.stuck && told.state !== "NEEDS_ATTENTION" && el("span", { class: "stuck" }, " ‖ stuck"),
    ),
    el("p", { class: "why" }, el("strong", {}, settled(told) ? "Why: " : "Now: "), told.why),
    told.state === "NEEDS_ATTENTION" &&
      el(
        "p",
        { class: "bad" },
        "Somebody must act: ",
        el("code", {}, `saga order redrive ${told.order_id} -m ${told.mode}`),
        " on a running system.",
      ),
    style && el("p", { class: "style" }, el("strong", {}, "How: "), style),
    el(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
    ),
    waiting && el("p", { class: "waiting" }, `‖ Waiting: ${waiting}`),
    told.remains.length > 0 &&
      el(
        "p",
        { class: "muted" },
        `Still to come: ${told.remains.join(", ")}${told.remains_note ? ` (${told.remains_note})` : ""}`,
      ),
    ...told.gaps.map((gap) => el("p", { class: "gap" }, `? ${gap}`)),
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
  const all = listed(state, mode);
  say(part.title, `${titleOf(mode)}: ${count(all.length, "order")}`);
  say(
    part.more,
    all.length > ROWS ? `The newest ${ROWS} of ${all.length}; those that need somebody first.` : all.length ? "" : "None yet.",
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
    (told) => told.order_id,
    make,
    (node, told) => updateRow(node, told, chosen, view),
  );
}

function updateRow(node, told, chosen, view) {
  const [link] = node.children;
  const { icon, word, tone } = STATES[told.state] ?? { icon: "?", word: told.state, tone: "run" };
  const [end, wanted, failure, size] = link.children;
  const href = hashOf(told.mode, told.order_id, view);
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
  end.className = `end ${told.stuck ? "bad" : tone}`;
  say(end, `${icon} ${word}${told.stuck && told.state !== "NEEDS_ATTENTION" ? ", stuck" : ""}`);
  say(wanted, told.wanted ?? "");
  say(failure, told.injected ?? "");
  say(size, count(told.entries.length, "message"));
  if (told.order_id === chosen) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** The same order in another lane. */
export const twinOf = (state, mode, id) => ordersOf(state, mode).get(id);
