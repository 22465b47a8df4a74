// Places orders: a button for every failure, and what the order is. The form's state is the permalink.
import { el, say } from "./dom.js";
import { ask } from "./feed.js";
import { fromPermalink, permalink } from "./route.js";

/** `placed(orders, notTaken, count, link)` is called with what the server answered; `tell(text)` says it to the user. */
export function formOf(state, { placed, tell }) {
  const given = {
    seed: String(state.seed),
    fail: "",
    count: "1",
    share: "100",
    sku: state.shelf[0] ?? "book",
    quantity: "2",
    customer: "Ada Lovelace",
    ...fromPermalink(),
  };
  const known = !given.fail || state.failures.some((failure) => failure.name === given.fail);
  if (!known) tell(`There is no such failure: ${given.fail}`);
  let fail = known ? given.fail : "";
  const number = (name, from, to) =>
    el("input", { name, type: "number", min: from, max: to, value: given[name], required: true });
  const fields = {
    sku: el(
      "select",
      { name: "sku" },
      [...new Set([...state.shelf, given.sku])].map((sku) => el("option", { value: sku, selected: sku === given.sku }, sku)),
    ),
    quantity: number("quantity", 1, 1000),
    customer: el("input", { name: "customer", value: given.customer, maxlength: 200, required: true, autocomplete: "off" }),
    count: number("count", 1, 500),
    share: number("share", 1, 100),
    seed: number("seed", 0, 2 ** 31),
  };
  const titles = {
    sku: "Article",
    quantity: "Quantity",
    customer: "Customer",
    count: "How many orders",
    share: "Share that fails, %",
    seed: "Seed",
  };
  const values = () => ({ fail, ...Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value])) });

  const link = el("a", { class: "permalink", href: "/" }, "Link to this seed and failure");
  const what = el("p", { class: "muted what", id: "what" });
  const buttons = [{ name: "", title: "nothing fails", what: "Every step succeeds." }, ...state.failures].map((failure) =>
    el(
      "button",
      {
        type: "button",
        class: "failure",
        value: failure.name,
        title: failure.what,
        click: () => send(failure.name),
        focus: () => say(what, failure.what),
        mouseenter: () => say(what, failure.what),
      },
      failure.title,
    ),
  );
  const form = el(
    "form",
    { submit: (event) => (event.preventDefault(), send(fail)), input: () => show() },
    el(
      "fieldset",
      {},
      el("legend", {}, el("h2", {}, "Place an order, and choose what fails")),
      el("div", { class: "failures", role: "group", "aria-describedby": "what" }, buttons),
      what,
    ),
    el(
      "details",
      { open: Object.keys(fromPermalink()).length > 0 },
      el("summary", {}, "The order: who, what, how many, which seed"),
      el(
        "div",
        { class: "fields" },
        Object.entries(fields).map(([name, field]) => el("label", {}, titles[name], field)),
      ),
      el("p", {}, el("button", { type: "submit", class: "again" }, "Place it"), " ", link),
    ),
  );

  function show() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === fail));
    const chosen = [{ name: "", what: "One click places the order in every lane." }, ...state.failures].find(
      (failure) => failure.name === fail,
    );
    say(what, chosen.what);
    link.setAttribute("href", permalink(values()));
  }

  async function send(failure) {
    fail = failure;
    show();
    if (!form.reportValidity()) return;
    const { sku, quantity, customer, count, share, seed } = values();
    const failures = fail ? [Number(share) < 100 ? `${fail}=${share}%` : fail] : [];
    const order = {
      lines: [{ sku, quantity: Number(quantity) }],
      customer,
      failures,
      modes: null,
      count: Number(count),
      seed: Number(seed),
    };
    try {
      const { orders, not_taken: notTaken } = await ask("/watch/orders", order);
      placed(orders, notTaken, order.count, permalink(values()));
    } catch (error) {
      tell(`Not placed. ${error.message}`);
    }
  }

  show();
  return form;
}
