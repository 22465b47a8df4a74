// The page's address: the hash names the selected order and view, the query is the form's permalink.

export const VIEWS = { path: "Path", graph: "Graph", timeline: "Timeline", messages: "Messages" };

/** The order and view of a hash such as `#/orchestrator/ORDER_ID/graph`; null if it names none or is malformed. */
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

/** A permalink such as `/?seed=7&fail=payment:declined&count=20`, without values that equal the defaults. */
export function permalink({ seed, fail, count, sku, quantity, customer, share }) {
  const query = new URLSearchParams();
  const defaults = { seed: "1", fail: "", count: "1", sku: "book", quantity: "2", customer: "Ada Lovelace", share: "100" };
  for (const [name, value] of Object.entries({ seed, fail, count, sku, quantity, customer, share })) {
    if (value !== undefined && String(value) !== defaults[name]) query.set(name, value);
  }
  const text = query.toString().replaceAll("%3A", ":");
  return text ? `/?${text}` : "/";
}

export function fromPermalink() {
  return Object.fromEntries(new URLSearchParams(location.search));
}
