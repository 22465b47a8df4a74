// The status of each mode: open orders, audit light, messages per order, and queues with buttons to kill and revive workers.
import { el, keyed, setText } from "./dom.js";
import { request } from "./feed.js";
import { count, seconds, titleOf } from "./words.js";

const LIGHTS = {
  sound: ["✓", "books balance", "good"],
  broken: ["✕", "books broken", "bad"],
  unknown: ["?", "not audited", "run"],
};

export function statusOf(lane, announce) {
  const facts = el("dl", { class: "facts" });
  const queues = el("ul", { class: "queues" });
  const findings = el("ul", { class: "findings" });
  const box = el("div", { class: "queue-box" }, el("p", { class: "muted" }, "Queues (waiting · consumers)"), queues);
  const node = el(
    "article",
    { class: "status", "data-mode": lane.mode },
    el("h2", {}, titleOf(lane.mode)),
    facts,
    box,
    findings,
  );
  return { lane, node, facts, queues, findings, announce };
}

/** `activeFaults`: the failures injected with open orders. */
export function updateStatus(part, status, activeFaults) {
  if (!status) return;
  const [icon, word, tone] = LIGHTS[status.audit] ?? LIGHTS.unknown;
  const facts = [
    ["Open", String(status.open)],
    ["Oldest", status.oldest_open_s === null ? "none" : seconds(status.oldest_open_s)],
    ["Audit", `${icon} ${word}`, tone],
    ["Messages per order", status.messages_per_order === null ? "–" : status.messages_per_order.toFixed(1)],
    ["Faults armed", activeFaults.join("; ") || "none"],
  ];
  const fact = ([name]) => el("div", {}, el("dt", {}, name), el("dd", {}));
  keyed(
    part.facts,
    facts,
    ([name]) => name,
    fact,
    (node, [, value, kind]) => {
      setText(node.lastElementChild, value);
      node.lastElementChild.className = kind ?? "";
    },
  );
  const up = new Map(status.workers.map((worker) => [worker.name, worker.up]));
  keyed(
    part.queues,
    shownOf(status, part.lane),
    (queue) => queue.name,
    (queue) => queueOf(part, queue),
    (node, queue) => updateQueue(node, queue, up.get(queue.name)),
  );
  const alarms = [...status.findings.map((finding) => `✕ ${finding}`), ...status.faults.map((fault) => `! ${fault}`)];
  keyed(
    part.findings,
    alarms,
    (alarm) => alarm,
    (alarm) => el("li", {}, alarm),
    () => {},
  );
}

/** The workers' queues, and other queues that hold messages or lack a consumer that they need. */
function shownOf(status, lane) {
  const queues = status.queues.map((queue) => ({ ...queue, name: queue.name.replace(`${lane.mode}.`, "") }));
  for (const queue of queues) {
    queue.worker = lane.workers.includes(queue.name);
    queue.dead = queue.name.endsWith(".dead") && queue.depth > 0;
    queue.unconsumed = (queue.worker || queue.name === "observer") && queue.consumers === 0;
  }
  return queues.filter((queue) => queue.worker || queue.depth > 0 || queue.unconsumed);
}

function queueOf(part, queue) {
  const node = el("li", {}, el("span", { class: "queue" }));
  if (!part.lane.can_kill || !queue.worker) return node;
  const toggle = async () => {
    const { worker, action } = node.lastElementChild.dataset;
    try {
      await request(`/watch/workers/${part.lane.mode}/${worker}/${action}`, {});
      part.announce(
        action === "kill"
          ? `${worker} was killed in ${part.lane.mode}. Its messages wait in its queue.`
          : `${worker} was started again in ${part.lane.mode}.`,
      );
    } catch (error) {
      part.announce(error.message);
    }
  };
  node.append(el("button", { type: "button", click: toggle, "data-mode": part.lane.mode }));
  return node;
}

function updateQueue(node, queue, up) {
  node.className = queue.dead || queue.unconsumed ? "alarm" : "";
  node.title = `${queue.depth} waiting, ${count(queue.consumers, "consumer")}`;
  const consumers = queue.unconsumed ? "no consumer" : queue.dead ? "dead" : String(queue.consumers);
  setText(node.firstElementChild, `${queue.dead || queue.unconsumed ? "! " : ""}${queue.name} ${queue.depth} · ${consumers}`);
  const button = node.querySelector("button");
  if (!button) return;
  Object.assign(button.dataset, { worker: queue.name, action: up ? "kill" : "revive" });
  setText(button, up ? "Kill" : "Revive");
  button.setAttribute("aria-label", `${up ? "Kill" : "Revive"} ${queue.name} in ${button.dataset.mode}`);
}
