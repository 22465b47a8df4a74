// The client of the server: event sources, requests, and the state of lanes, orders and statuses. It draws nothing.

/** Maximum orders kept of one lane; the oldest ended ones are dropped first. */
const KEPT = 1000;
/** Milliseconds until a server that does not respond is called again. */
const RETRY_MS = 1000;

/** `orders`: mode -> order id -> its history. `epochs`: path of an event stream -> epoch of its server. `skew`: seconds by which
 *  the server's clock is ahead. */
export function emptyState() {
  const description = { lanes: [], failures: [], shelf: [], seed: 1 };
  return { ...description, orders: new Map(), status: new Map(), epochs: new Map(), skew: 0 };
}

/** Applies one event to the state. Each order keeps the path and number of the connection that delivered it. A `fresh` connection
 *  has delivered all open orders when it is ready, so open orders of older connections have ended and are dropped. A new epoch
 *  drops every order of older connections. */
export function applyEvent(state, kind, data, from) {
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
      for (const [id, order] of orders) {
        const older = order.from.path === from.path && order.from.connection !== from.connection;
        if (older && (restarted || (from.fresh && order.took_s === null))) orders.delete(id);
      }
    }
    state.epochs.set(from.path, data.epoch);
  }
}

export function ordersOf(state, mode) {
  if (!state.orders.has(mode)) state.orders.set(mode, new Map());
  return state.orders.get(mode);
}

/** The orders of a mode: those that need attention first, then newest first (ids sort by age, in the same order in each lane). */
export function sortedOrders(state, mode) {
  const weight = (order) => (order.state === "NEEDS_ATTENTION" || order.stuck ? 1 : 0);
  return [...ordersOf(state, mode).values()].sort((a, b) => weight(b) - weight(a) || (a.order_id < b.order_id ? 1 : -1));
}

export function newest(state) {
  let found = null;
  for (const orders of state.orders.values()) {
    for (const order of orders.values()) if (!found || order.began_at > found.began_at) found = order;
  }
  return found;
}

/** Worker -> number of open orders that wait for it. */
export function openOrdersByWorker(state, mode) {
  const counts = new Map();
  for (const order of ordersOf(state, mode).values()) {
    for (const worker of new Set(order.waiting.map((one) => one.worker))) counts.set(worker, (counts.get(worker) ?? 0) + 1);
  }
  return counts;
}

/** The failures injected with the open orders of a mode. */
export function activeFaults(state, mode) {
  const open = [...ordersOf(state, mode).values()].filter((order) => order.injected && order.took_s === null);
  return [...new Set(open.map((order) => order.injected))].sort();
}

/** Seconds since the epoch by the server's clock. */
export const now = (state) => Date.now() / 1000 + state.skew;

function trim(orders) {
  const ended = [...orders.values()].filter((order) => order.took_s !== null).sort((a, b) => a.began_at - b.began_at);
  for (const order of ended.slice(0, orders.size - KEPT)) orders.delete(order.order_id);
}

/**
 * Subscribes to the event streams of all lanes, and reconnects when they end. Calls `changed()` after each event and
 * `connected(live, lost)` when connections change: the modes of connected lanes and of lost ones. Others are still connecting.
 */
export function subscribe(state, { changed, connected }) {
  const sources = new Map();
  const live = new Map(); // path -> whether it is connected; absent before its first event or error
  let connection = 0;

  const modesWhere = (isLive) => state.lanes.filter((lane) => live.get(lane.events) === isLive).map((lane) => lane.mode);
  const reportConnections = () => connected(modesWhere(true), modesWhere(false));

  const refreshLanes = async () => {
    if (!(await readLanes(state))) {
      setTimeout(refreshLanes, RETRY_MS);
      return reportConnections();
    }
    const modes = state.lanes.map((lane) => lane.mode);
    for (const mode of state.orders.keys()) if (!modes.includes(mode)) state.orders.delete(mode);
    const paths = new Set(document.hidden ? [] : state.lanes.map((lane) => lane.events));
    for (const path of sources.keys()) if (!paths.has(path)) close(path);
    for (const path of paths) if (!sources.has(path)) open(path);
    reportConnections();
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
    source.onopen = () => (from = { path, connection: ++connection, fresh: !from.connection });
    for (const kind of ["order", "status", "ready"]) {
      source.addEventListener(kind, (event) => {
        const data = JSON.parse(event.data);
        const reconnected = kind === "ready" && state.epochs.has(path);
        applyEvent(state, kind, data, from);
        if (kind === "ready") {
          live.set(path, true);
          if (reconnected) refreshLanes(); // perhaps another server, with other lanes
          else reportConnections();
        }
        changed();
      });
    }
    source.onerror = () => {
      live.set(path, false);
      reportConnections();
      if (source.readyState !== EventSource.CLOSED || sources.get(path) !== source) return;
      close(path);
      setTimeout(refreshLanes, RETRY_MS);
    };
  };

  // A browser shares six connections to a server among all its windows, so a hidden window closes its own.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return refreshLanes();
    for (const path of sources.keys()) close(path);
  });
  refreshLanes();
}

async function readLanes(state) {
  try {
    Object.assign(state, await request("/watch/lanes"));
    return true;
  } catch {
    return false;
  }
}

/** The server's response as JSON. Throws an Error with the problem's text, and with `status` if there was a response. */
export async function request(path, body) {
  const options =
    body === undefined
      ? {}
      : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-Saga": "page" } };
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server does not respond.");
  });
  const text = await response.text();
  if (!response.ok) {
    const { status } = response;
    throw Object.assign(new Error(problemOf(text) || `The server responded with status ${status}.`), { status });
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
