// Which order is shown and how: the part of the address behind #, and the form's permalink before it.

export const VIEWS = { path: "Path", graph: "Graph", timeline: "Timeline", messages: "Messages" };

/** `#/orchestrator/ORDER_ID/graph`; null when no order is named, or in a way that nobody can read. */
export function route() {
  const [, mode, id, view] = decoded(location.hash.split("/"));
  return mode && id ? { mode, id, view: Object.hasOwn(VIEWS, view) ? view : "path" } : null;
}

function decoded(parts) {
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return [];
  }
}

export function hashOf(mode, id, view = "path") {
  const parts = view === "path" ? [mode, id] : [mode, id, view];
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** `?seed=7&fail=payment:declined&count=20`, with nothing in it that is as always. */
export function permalink({ seed, fail, count, sku, quantity, customer, share }) {
  const query = new URLSearchParams();
  const usual = { seed: "1", fail: "", count: "1", sku: "book", quantity: "2", customer: "Ada Lovelace", share: "100" };
  for (const [name, value] of Object.entries({ seed, fail, count, sku, quantity, customer, share })) {
    if (value !== undefined && String(value) !== usual[name]) query.set(name, value);
  }
  const text = query.toString().replaceAll("%3A", ":");
  return text ? `/?${text}` : "/";
}

export function fromPermalink() {
  return Object.fromEntries(new URLSearchParams(location.search));
}
