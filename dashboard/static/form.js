// The order form: a button for each failure, and the fields of an order. A permalink holds the form's state.
import { el, setText } from "./dom.js";
import { request } from "./feed.js";
import { fromPermalink, permalink } from "./route.js";

/** Calls `placed(orders, notTaken, count, link)` with the server's response, and `announce(text)` with messages for the user. */
export function formOf(state, { placed, announce }) {
  const initial = {
    seed: String(state.seed),
    fail: "",
    count: "1",
    share: "100",
    sku: state.shelf[0] ?? "book",
    quantity: "2",
    customer: "Ada Lovelace",
    ...fromPermalink(),
  };
  const known = !initial.fail || state.failures.some((failure) => failure.name === initial.fail);
  if (!known) announce(`There is no such failure: ${initial.fail}`);
  let fail = known ? initial.fail : "";
  const number = (name, from, to) =>
    el("input", { name, type: "number", min: from, max: to, value: initial[name], required: true });
  const fields = {
    sku: el(
      "select",
      { name: "sku" },
      [...new Set([...state.shelf, initial.sku])].map((sku) => el("option", { value: sku, selected: sku === initial.sku }, sku)),
    ),
    quantity: number("quantity", 1, 1000),
    customer: el("input", { name: "customer", value: initial.customer, maxlength: 200, required: true, autocomplete: "off" }),
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
        focus: () => setText(what, failure.what),
        mouseenter: () => setText(what, failure.what),
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
      el("summary", {}, "Order details"),
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
    setText(what, chosen.what);
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
      const { orders, not_taken: notTaken } = await request("/watch/orders", order);
      placed(orders, notTaken, order.count, permalink(values()));
    } catch (error) {
      announce(`Not placed. ${error.message}`);
    }
  }

  show();
  return form;
}
