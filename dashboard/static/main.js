// Composes the page: selects the order, shows its messages one by one, and schedules drawing.
import { setText } from "./dom.js";
import { activeFaults, emptyState, newest, ordersOf, request, subscribe } from "./feed.js";
import { formOf } from "./form.js";
import { statusOf, updateStatus } from "./header.js";
import { laneOf, listOf, orderIn, updateIdle, updateLane, updateList } from "./lanes.js";
import { hashOf, route } from "./route.js";
import { storyOf, updateStory } from "./story.js";
import { ended, settled } from "./words.js";

/** Milliseconds between two messages while an order is played. */
const PACE_MS = 260;
const REDUCED_MOTION = matchMedia("(prefers-reduced-motion: reduce)");

const state = emptyState();
const parts = { status: [], lanes: [], lists: [] };
const playing = { id: null, shown: Infinity, timer: null };
const $ = (id) => document.getElementById(id);
const announce = (text) => setText($("said"), text);
let story = null;
let drawScheduled = false;

function build() {
  const make = (box, maker) => {
    const made = state.lanes.map(maker);
    box.replaceChildren(...made.map((part) => part.node));
    box.classList.toggle("single", made.length === 1);
    return made;
  };
  parts.status = make($("status"), (lane) => statusOf(lane, announce));
  parts.lanes = make($("lanes"), laneOf);
  parts.lists = make($("lists"), listOf);
  if (!$("form").firstChild) $("form").append(formOf(state, { placed, announce }));
  story ??= storyOf({ play, step, withdraw });
  if (!story.node.parentNode) $("story").append(story.node);
}

/** The order that the address names, or else the newest. */
function selected() {
  const named = route();
  if (named) return named;
  const order = newest(state);
  return order && { mode: order.mode, id: order.order_id, view: "path" };
}

function draw() {
  drawScheduled = false;
  const chosen = selected();
  const orders = chosen ? state.lanes.map((lane) => orderIn(state, lane.mode, chosen.id)) : [];
  const present = orders.filter(Boolean);
  const longest = Math.max(0, ...orders.map((order) => order?.entries.length ?? 0));
  const shown = chosen && playing.id === chosen.id ? playing.shown : Infinity;
  updateStory(story, chosen, present, {
    shown: Math.min(shown, longest),
    longest,
    lanes: state.lanes.length,
    playing: playing.timer !== null && shown < longest,
    failures: state.failures,
    slowed: state.lanes.some((lane) => lane.can_kill),
  });
  parts.lanes.forEach((part, index) =>
    chosen ? updateLane(part, state, orders[index], present, chosen.view, shown) : updateIdle(part),
  );
  parts.lists.forEach((part) => updateList(part, state, chosen?.id, chosen?.view));
  parts.status.forEach((part) => updateStatus(part, state.status.get(part.lane.mode), activeFaults(state, part.lane.mode)));
}

function changed() {
  if (drawScheduled || !parts.lanes.length) return;
  drawScheduled = true;
  requestAnimationFrame(draw);
}

// --- what the user does -----------------------------------------------------------------------------------------------------

function placed(orders, notTaken, count, link) {
  const [first] = orders;
  const missing = notTaken.map((one) => `${one.mode} did not accept ${one.count} of ${count}: ${one.why}.`);
  announce(
    missing.join(" ") ||
      (count === 1
        ? "Placed. What each style did is below."
        : `${count} orders placed in each lane. The first of them is below.`),
  );
  if (count === 1) play(first.order_id);
  history.pushState(null, "", link + hashOf(first.mode, first.order_id, route()?.view));
  changed();
  const top = $("story").getBoundingClientRect().top;
  if (top > innerHeight * 0.5) $("story").scrollIntoView({ behavior: REDUCED_MOTION.matches ? "auto" : "smooth" });
}

/** Shows an order's messages one by one; all at once under reduced motion, unless the user `requested` it by "Play again". */
function play(id, requested = false) {
  stop();
  const atOnce = REDUCED_MOTION.matches && !requested;
  Object.assign(playing, { id, shown: atOnce ? Infinity : 0 });
  if (!atOnce) playing.timer = setInterval(tick, PACE_MS);
  changed();
}

function tick() {
  const orders = state.lanes.map((lane) => ordersOf(state, lane.mode).get(playing.id)).filter(Boolean);
  const longest = Math.max(0, ...orders.map((order) => order.entries.length));
  if (playing.shown < longest) playing.shown += 1;
  else if (orders.length && orders.every(settled)) {
    playing.shown = Infinity;
    stop();
  }
  changed();
}

function stop() {
  clearInterval(playing.timer);
  playing.timer = null;
}

function step(id, shown, longest) {
  stop();
  Object.assign(playing, { id, shown: shown >= longest ? Infinity : shown });
  changed();
}

/** Withdraws an order in all lanes concurrently; each may fail. A lane that has not delivered the order may still have it. */
async function withdraw(id) {
  const requests = state.lanes.map(async ({ mode }) => {
    const order = orderIn(state, mode, id);
    if (order && ended(order)) return "";
    try {
      await request(`/watch/orders/${mode}/${id}/withdraw`, {});
      return "";
    } catch (error) {
      return order || error.status !== 404 ? error.message : "";
    }
  });
  const errors = (await Promise.all(requests)).filter(Boolean);
  announce(errors.join(" ") || "Withdrawal requested. It is refused if the order has passed its pivot.");
}

// --- theme and connection ---------------------------------------------------------------------------------------------------

function theme(next) {
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
  setText($("theme"), `Theme: ${next}`);
}

/** `live`, `lost`: the modes of the lanes that are connected, and of those whose connection is lost. */
function connected(live, lost) {
  const all = state.lanes.length;
  const up = all > 0 && live.length === all;
  const connecting = all > 0 && !up && lost.length === 0;
  const missing = lost.length < all ? `Connection to ${lost.join()} lost` : "Connection lost";
  $("connection").className = up ? "good" : connecting ? "" : "bad";
  setText($("connection"), up ? "✓ Connected" : connecting ? "Connecting…" : `! ${missing}, trying again…`);
  const shown = parts.lists.map((part) => part.lane.mode).join();
  if (state.lanes.map((lane) => lane.mode).join() !== shown) build(); // another server with other modes
}

theme(localStorage.getItem("theme") ?? "system");
$("theme").addEventListener("click", () => {
  const order = ["system", "light", "dark"];
  theme(order[(order.indexOf(localStorage.getItem("theme")) + 1) % order.length]);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash of the address names the order
  $("story").focus();
});
addEventListener("hashchange", changed);
addEventListener("popstate", changed);
addEventListener("resize", changed);
setInterval(changed, 1000);
subscribe(state, { changed, connected });
