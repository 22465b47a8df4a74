// Puts the page together: what is chosen, what is shown of it, and when it is drawn again.
import { say } from "./dom.js";
import { armed, ask, emptyState, listen, newest, ordersOf } from "./feed.js";
import { formOf } from "./form.js";
import { statusOf, updateStatus } from "./header.js";
import { laneOf, listOf, twinOf, updateIdle, updateLane, updateList } from "./lanes.js";
import { hashOf, route } from "./route.js";
import { storyOf, updateStory } from "./story.js";
import { ended, settled } from "./words.js";

/** Milliseconds between two messages while an order that was just placed, or is played again, is shown. */
const PACE_MS = 260;
const STEADY = matchMedia("(prefers-reduced-motion: reduce)");

const state = emptyState();
const parts = { status: [], lanes: [], lists: [] };
const playing = { id: null, shown: Infinity, timer: null };
const $ = (id) => document.getElementById(id);
const tell = (text) => say($("said"), text);
let story = null;
let due = false;

function build() {
  const make = (box, maker) => {
    const made = state.lanes.map(maker);
    box.replaceChildren(...made.map((part) => part.node));
    box.classList.toggle("single", made.length === 1);
    return made;
  };
  parts.status = make($("status"), (lane) => statusOf(lane, tell));
  parts.lanes = make($("lanes"), laneOf);
  parts.lists = make($("lists"), listOf);
  if (!$("form").firstChild) $("form").append(formOf(state, { placed, tell }));
  story ??= storyOf({ play, step, withdraw });
  if (!story.node.parentNode) $("story").append(story.node);
}

/** What the address names, or else the newest order. */
function selected() {
  const named = route();
  if (named) return named;
  const told = newest(state);
  return told && { mode: told.mode, id: told.order_id, view: "path" };
}

function draw() {
  due = false;
  const chosen = selected();
  const tolds = chosen ? state.lanes.map((lane) => twinOf(state, lane.mode, chosen.id)) : [];
  const there = tolds.filter(Boolean);
  const longest = Math.max(0, ...tolds.map((told) => told?.entries.length ?? 0));
  const shown = chosen && playing.id === chosen.id ? playing.shown : Infinity;
  updateStory(story, chosen, there, {
    shown: Math.min(shown, longest),
    longest,
    lanes: state.lanes.length,
    playing: playing.timer !== null && shown < longest,
    failures: state.failures,
    slowed: state.lanes.some((lane) => lane.can_kill),
  });
  parts.lanes.forEach((part, index) =>
    chosen ? updateLane(part, state, tolds[index], there, chosen.view, shown) : updateIdle(part),
  );
  parts.lists.forEach((part) => updateList(part, state, chosen?.id, chosen?.view));
  parts.status.forEach((part) => updateStatus(part, state.status.get(part.lane.mode), armed(state, part.lane.mode)));
}

function changed() {
  if (due || !parts.lanes.length) return;
  due = true;
  requestAnimationFrame(draw);
}

// --- what the user does -----------------------------------------------------------------------------------------------------

function placed(orders, notTaken, count, link) {
  const [first] = orders;
  const missing = notTaken.map((one) => `${one.mode} did not take ${one.count} of ${count}: ${one.why}.`);
  tell(
    missing.join(" ") ||
      (count === 1
        ? "Placed. What each style did about it is below."
        : `${count} orders placed in each lane. The first of them is below.`),
  );
  if (count === 1) play(first.order_id);
  history.pushState(null, "", link + hashOf(first.mode, first.order_id, route()?.view));
  changed();
  const top = $("story").getBoundingClientRect().top;
  if (top > innerHeight * 0.5) $("story").scrollIntoView({ behavior: STEADY.matches ? "auto" : "smooth" });
}

/** Shows an order's messages one after the other; whoever wants no motion sees them all at once. */
function play(id, asked = false) {
  stop();
  const still = STEADY.matches && !asked;
  Object.assign(playing, { id, shown: still ? Infinity : 0 });
  if (!still) playing.timer = setInterval(tick, PACE_MS);
  changed();
}

function tick() {
  const tolds = state.lanes.map((lane) => ordersOf(state, lane.mode).get(playing.id)).filter(Boolean);
  const longest = Math.max(0, ...tolds.map((told) => told.entries.length));
  if (playing.shown < longest) playing.shown += 1;
  else if (tolds.length && tolds.every(settled)) {
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

/** In every lane at once: one that does not answer keeps no other from it. A lane that has not told of the order may have it. */
async function withdraw(id) {
  const asked = state.lanes.map(async ({ mode }) => {
    const told = twinOf(state, mode, id);
    if (told && ended(told)) return "";
    try {
      await ask(`/watch/orders/${mode}/${id}/withdraw`, {});
      return "";
    } catch (error) {
      return told || error.status !== 404 ? error.message : "";
    }
  });
  const refused = (await Promise.all(asked)).filter(Boolean);
  tell(refused.join(" ") || "Taken back, as far as it still can be.");
}

// --- theme and connection ---------------------------------------------------------------------------------------------------

function theme(next) {
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
  say($("theme"), `Theme: ${next}`);
}

/** `heard`, `lost`: the modes of the lanes that something comes from, and of those that nothing comes from any more. */
function connected(heard, lost) {
  const all = state.lanes.length;
  const up = all > 0 && heard.length === all;
  const begins = all > 0 && !up && lost.length === 0;
  const missing = lost.length < all ? `Connection to ${lost.join()} lost` : "Connection lost";
  $("connection").className = up ? "good" : begins ? "" : "bad";
  say($("connection"), up ? "✓ Connected" : begins ? "Connecting…" : `! ${missing}, trying again…`);
  const shown = parts.lists.map((part) => part.lane.mode).join();
  if (state.lanes.map((lane) => lane.mode).join() !== shown) build(); // another server, which may run another mode
}

theme(localStorage.getItem("theme") ?? "system");
$("theme").addEventListener("click", () => {
  const order = ["system", "light", "dark"];
  theme(order[(order.indexOf(localStorage.getItem("theme")) + 1) % order.length]);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // what is behind # names the order
  $("story").focus();
});
addEventListener("hashchange", changed);
addEventListener("popstate", changed);
addEventListener("resize", changed);
setInterval(changed, 1000);
listen(state, { changed, connected });
