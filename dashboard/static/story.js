// The order that is shown: what was ordered, both lanes compared in a line, its views, and a slider through its messages.
import { el, keyed, say } from "./dom.js";
import { hashOf, VIEWS } from "./route.js";
import { compared, ended } from "./words.js";

/** `play(id, true)`, `step(id, shown, longest)` and `withdraw(id)` are called when the user asks for it. */
export function storyOf({ play, step, withdraw }) {
  const story = {
    title: el("h2", {}),
    what: el("p", { class: "muted" }),
    line: el("p", { class: "compared" }),
    pace: el(
      "p",
      { class: "muted" },
      "Slowed down so that it can be seen: every message takes a while to arrive here. Measured times are in the README.",
    ),
    tabs: el("nav", { class: "tabs", "aria-label": "Views of this order" }),
  };
  story.slider = el("input", {
    type: "range",
    min: 0,
    step: 1,
    "aria-label": "Messages shown",
    input: () => step(story.id, Number(story.slider.value), story.longest),
  });
  story.replay = el("button", { type: "button", click: () => play(story.id, true) }, "Play again");
  story.back = el("button", { type: "button", click: () => withdraw(story.id) }, "Withdraw the order");
  story.shown = el("output", { class: "muted" });
  story.legend = el(
    "p",
    { class: "legend muted" },
    el("span", { class: "command" }, "──▶ command"),
    el("span", { class: "event" }, "┄┄▷ event"),
    el("span", { class: "rollback" }, "▪↩ rollback"),
    el("span", {}, "● heard by nobody who must act"),
  );
  story.player = el("div", { class: "player" }, story.slider, story.shown, story.replay, story.back);
  story.node = el(
    "div",
    {},
    story.title,
    story.what,
    story.line,
    story.pace,
    el("div", { class: "bar" }, story.tabs, story.player),
    story.legend,
  );
  return story;
}

export function updateStory(story, chosen, tolds, { shown, longest, lanes, playing, failures, slowed }) {
  for (const part of [story.tabs, story.player, story.what, story.line, story.pace, story.legend]) part.hidden = !tolds.length;
  if (!tolds.length) {
    say(
      story.title,
      chosen
        ? "Nothing was heard of this order here. Place another above."
        : "Nothing has been ordered yet. Click a failure above.",
    );
    return;
  }
  const [told] = tolds;
  Object.assign(story, { id: told.order_id, longest });
  const open = !tolds.every(ended);
  const name = told.injected ?? (tolds.some((one) => one.reason === "withdrawn") ? "customer:withdraws" : "");
  const failure = failures.find((one) => one.name === name) ?? { title: name || "nothing injected", what: "" };
  say(story.title, `${told.wanted ?? "An order"}: ${failure.title}`);
  say(story.what, failure.what);
  say(story.line, tolds.length === 2 ? compared(...tolds) : lanes === 2 ? "Heard in one lane only." : told.why);
  story.line.classList.toggle("ahead", shown < longest && chosen.view !== "messages");
  story.pace.hidden = !slowed;
  const tab = () => el("a", {});
  keyed(
    story.tabs,
    Object.entries(VIEWS),
    ([name]) => name,
    tab,
    (link, [name, title]) => {
      link.setAttribute("href", hashOf(chosen.mode, chosen.id, name));
      say(link, title);
      if (name === chosen.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    },
  );
  story.legend.hidden = chosen.view === "messages";
  for (const part of [story.slider, story.shown, story.replay]) part.hidden = chosen.view === "messages";
  story.slider.max = longest;
  story.slider.value = shown;
  const live = shown === longest && open;
  say(story.shown, `${shown} of ${longest}${live ? ", live" : ""}`);
  say(story.replay, playing ? "Playing…" : "Play again");
  story.back.hidden = !open;
}
