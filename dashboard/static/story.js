// The selected order: what was ordered, a comparison of the lanes, its views, and a slider through its messages.
import { el, keyed, setText } from "./dom.js";
import { hashOf, VIEWS } from "./route.js";
import { comparison, ended } from "./words.js";

/** Calls `play(id, true)`, `step(id, shown, longest)` and `withdraw(id)` on user input. */
export function storyOf({ play, step, withdraw }) {
  const story = {
    title: el("h2", {}),
    what: el("p", { class: "muted" }),
    line: el("p", { class: "compared" }),
    pace: el(
      "p",
      { class: "muted" },
      "Slowed down so that it can be seen: each message is delayed here. Measured times are in the README.",
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
    el("span", {}, "● no worker acts on it"),
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

export function updateStory(story, chosen, orders, { shown, longest, lanes, playing, failures, slowed }) {
  for (const part of [story.tabs, story.player, story.what, story.line, story.pace, story.legend]) part.hidden = !orders.length;
  if (!orders.length) {
    setText(
      story.title,
      chosen
        ? "No message of this order was observed here. Place another above."
        : "Nothing has been ordered yet. Click a failure above.",
    );
    return;
  }
  const [order] = orders;
  Object.assign(story, { id: order.order_id, longest });
  const open = !orders.every(ended);
  const name = order.injected ?? (orders.some((one) => one.reason === "withdrawn") ? "customer:withdraws" : "");
  const failure = failures.find((one) => one.name === name) ?? { title: name || "nothing injected", what: "" };
  setText(story.title, `${order.wanted ?? "An order"}: ${failure.title}`);
  setText(story.what, failure.what);
  setText(story.line, orders.length === 2 ? comparison(...orders) : lanes === 2 ? "Observed in one lane only." : order.why);
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
      setText(link, title);
      if (name === chosen.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    },
  );
  story.legend.hidden = chosen.view === "messages";
  for (const part of [story.slider, story.shown, story.replay]) part.hidden = chosen.view === "messages";
  story.slider.max = longest;
  story.slider.value = shown;
  const live = shown === longest && open;
  setText(story.shown, `${shown} of ${longest}${live ? ", live" : ""}`);
  setText(story.replay, playing ? "Playing…" : "Play again");
  story.back.hidden = !open;
}
