// What the server tells: the event source, and everything known about lanes, orders and status. It draws nothing.

/** Orders kept of one lane; the oldest that have ended go first. */
const KEPT = 1000;
/** Milliseconds until a server that does not answer is asked again. */
const AGAIN_MS = 1000;

/** `orders`: mode -> order id -> what is told of it. `epochs`: path of events -> epoch of its server. `skew`: how far the server's
 *  clock is ahead, in seconds. */
export function emptyState() {
  const told = { lanes: [], failures: [], shelf: [], seed: 1 };
  return { ...told, orders: new Map(), status: new Map(), epochs: new Map(), skew: 0 };
}

/** Takes in one event. Orders carry the path and the number of the connection that brought them. One that is `anew` has told of all
 *  open orders when it is ready: open ones that only an older one told of have ended since. A new epoch drops all older ones. */
export function take(state, kind, data, from) {
  if (kind === "order") {
    const orders = ordersOf(state, data.mode);
    orders.set(data.order_id, { ...data, from });
    if (orders.size > KEPT * 1.2) trim(orders);
  } else if (kind === "status") {
    state.status.set(data.mode, data);
    state.skew = data.at - Date.now() / 1000;
  } else if (kind === "ready") {
    const restarted = data.epoch !== state.epochs.get(from.path);
    for (const orders of state.orders.values()) {
      for (const [id, told] of orders) {
        const older = told.from.path === from.path && told.from.connection !== from.connection;
        if (older && (restarted || (from.anew && told.took_s === null))) orders.delete(id);
      }
    }
    state.epochs.set(from.path, data.epoch);
  }
}

export function ordersOf(state, mode) {
  if (!state.orders.has(mode)) state.orders.set(mode, new Map());
  return state.orders.get(mode);
}

/** Newest first (ids sort by age, and so alike in every lane); what needs somebody comes before everything else. */
export function listed(state, mode) {
  const weight = (told) => (told.state === "NEEDS_ATTENTION" || told.stuck ? 1 : 0);
  return [...ordersOf(state, mode).values()].sort((a, b) => weight(b) - weight(a) || (a.order_id < b.order_id ? 1 : -1));
}

export function newest(state) {
  let found = null;
  for (const orders of state.orders.values()) {
    for (const told of orders.values()) if (!found || told.began_at > found.began_at) found = told;
  }
  return found;
}

/** Worker -> how many open orders wait for it. */
export function atWork(state, mode) {
  const counts = new Map();
  for (const told of ordersOf(state, mode).values()) {
    for (const worker of new Set(told.waiting.map((one) => one.worker))) counts.set(worker, (counts.get(worker) ?? 0) + 1);
  }
  return counts;
}

/** The failures that the open orders of a mode carry. */
export function armed(state, mode) {
  const open = [...ordersOf(state, mode).values()].filter((told) => told.injected && told.took_s === null);
  return [...new Set(open.map((told) => told.injected))].sort();
}

/** Seconds since the epoch by the server's clock. */
export const now = (state) => Date.now() / 1000 + state.skew;

function trim(orders) {
  const over = [...orders.values()].filter((told) => told.took_s !== null).sort((a, b) => a.began_at - b.began_at);
  for (const told of over.slice(0, orders.size - KEPT)) orders.delete(told.order_id);
}

/**
 * Listens for ever, to every path that a lane's events come by. `changed()` after each event; `connected(heard, lost)` with the
 * modes of the lanes that are heard and of those that no longer are, whenever that changes; the others are not heard yet.
 */
export function listen(state, { changed, connected }) {
  const sources = new Map();
  const heard = new Map(); // path -> whether it is; not in here before it first was or was not
  let connection = 0;

  const modesThat = (are) => state.lanes.filter((lane) => heard.get(lane.events) === are).map((lane) => lane.mode);
  const tell = () => connected(modesThat(true), modesThat(false));

  const look = async () => {
    if (!(await readLanes(state))) {
      setTimeout(look, AGAIN_MS);
      return tell();
    }
    const modes = state.lanes.map((lane) => lane.mode);
    for (const mode of state.orders.keys()) if (!modes.includes(mode)) state.orders.delete(mode);
    const paths = new Set(document.hidden ? [] : state.lanes.map((lane) => lane.events));
    for (const path of sources.keys()) if (!paths.has(path)) close(path);
    for (const path of paths) if (!sources.has(path)) open(path);
    tell();
    changed();
  };

  const close = (path) => {
    sources.get(path).close();
    sources.delete(path);
  };

  const open = (path) => {
    const source = new EventSource(path);
    let from = { path };
    sources.set(path, source);
    source.onopen = () => (from = { path, connection: ++connection, anew: !from.connection });
    for (const kind of ["order", "status", "ready"]) {
      source.addEventListener(kind, (event) => {
        const data = JSON.parse(event.data);
        const again = kind === "ready" && state.epochs.has(path);
        take(state, kind, data, from);
        if (kind === "ready") {
          heard.set(path, true);
          if (again) look(); // perhaps another server, which has other lanes
          else tell();
        }
        changed();
      });
    }
    source.onerror = () => {
      heard.set(path, false);
      tell();
      if (source.readyState !== EventSource.CLOSED || sources.get(path) !== source) return;
      close(path);
      setTimeout(look, AGAIN_MS);
    };
  };

  // A browser has six connections to a server for all its windows: one that nobody sees lets go of its own.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return look();
    for (const path of sources.keys()) close(path);
  });
  look();
}

async function readLanes(state) {
  try {
    Object.assign(state, await ask("/watch/lanes"));
    return true;
  } catch {
    return false;
  }
}

/** The server's answer as JSON; throws an Error with the problem's own words, and its `status` if there was an answer. */
export async function ask(path, body) {
  const options =
    body === undefined
      ? {}
      : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-Saga": "page" } };
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server does not answer.");
  });
  const text = await response.text();
  if (!response.ok) {
    throw Object.assign(new Error(problemOf(text) || `The server answered ${response.status}.`), { status: response.status });
  }
  return text ? JSON.parse(text) : null;
}

function problemOf(text) {
  try {
    const problem = JSON.parse(text);
    return [problem.title, typeof problem.detail === "string" ? problem.detail : ""].filter(Boolean).join(": ");
  } catch {
    return "";
  }
}
