// How each mode is doing: open orders, audit light, messages per order, queues and workers with their switches.
import { el, keyed, say } from "./dom.js";
import { ask } from "./feed.js";
import { count, seconds, titleOf } from "./words.js";

const LIGHTS = {
  sound: ["✓", "books balance", "good"],
  broken: ["✕", "books broken", "bad"],
  unknown: ["?", "not audited", "run"],
};

export function statusOf(lane, tell) {
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
  return { lane, node, facts, queues, findings, tell };
}

/** `armed`: the failures that open orders carry. */
export function updateStatus(part, status, armed) {
  if (!status) return;
  const [icon, word, tone] = LIGHTS[status.audit] ?? LIGHTS.unknown;
  const facts = [
    ["Open", String(status.open)],
    ["Oldest", status.oldest_open_s === null ? "none" : seconds(status.oldest_open_s)],
    ["Audit", `${icon} ${word}`, tone],
    ["Messages per order", status.messages_per_order === null ? "–" : status.messages_per_order.toFixed(1)],
    ["Faults armed", armed.join("; ") || "none"],
  ];
  const fact = ([name]) => el("div", {}, el("dt", {}, name), el("dd", {}));
  keyed(
    part.facts,
    facts,
    ([name]) => name,
    fact,
    (node, [, value, kind]) => {
      say(node.lastElementChild, value);
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

/** The workers' own queues, and of the others those in which something waits or that nobody hears though somebody should. */
function shownOf(status, lane) {
  const queues = status.queues.map((queue) => ({ ...queue, name: queue.name.replace(`${lane.mode}.`, "") }));
  for (const queue of queues) {
    queue.worker = lane.workers.includes(queue.name);
    queue.dead = queue.name.endsWith(".dead") && queue.depth > 0;
    queue.deaf = (queue.worker || queue.name === "observer") && queue.consumers === 0;
  }
  return queues.filter((queue) => queue.worker || queue.depth > 0 || queue.deaf);
}

function queueOf(part, queue) {
  const node = el("li", {}, el("span", { class: "queue" }));
  if (!part.lane.can_kill || !queue.worker) return node;
  const flip = async () => {
    const { worker, deed } = node.lastElementChild.dataset;
    try {
      await ask(`/watch/workers/${part.lane.mode}/${worker}/${deed}`, {});
      part.tell(
        deed === "kill"
          ? `${worker} is killed in ${part.lane.mode}. What comes for it waits in its queue.`
          : `${worker} is back in ${part.lane.mode}.`,
      );
    } catch (error) {
      part.tell(error.message);
    }
  };
  node.append(el("button", { type: "button", click: flip, "data-mode": part.lane.mode }));
  return node;
}

function updateQueue(node, queue, up) {
  node.className = queue.dead || queue.deaf ? "alarm" : "";
  node.title = `${queue.depth} waiting, ${count(queue.consumers, "consumer")}`;
  const said = queue.deaf ? "no consumer" : queue.dead ? "dead" : String(queue.consumers);
  say(node.firstElementChild, `${queue.dead || queue.deaf ? "! " : ""}${queue.name} ${queue.depth} · ${said}`);
  const button = node.querySelector("button");
  if (!button) return;
  Object.assign(button.dataset, { worker: queue.name, deed: up ? "kill" : "revive" });
  say(button, up ? "Kill" : "Revive");
  button.setAttribute("aria-label", `${up ? "Kill" : "Revive"} ${queue.name} in ${button.dataset.mode}`);
}
