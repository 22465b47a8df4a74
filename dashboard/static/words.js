// Texts: states, durations, and summaries of what each style did. Pure functions of an order's history.

export const STATES = {
  ACCEPTED: { icon: "▸", word: "Accepted", tone: "run" },
  PENDING: { icon: "▸", word: "Under way", tone: "run" },
  NEEDS_ATTENTION: { icon: "!", word: "Needs attention", tone: "bad" },
  COMPLETED: { icon: "✓", word: "Completed", tone: "good" },
  REJECTED: { icon: "✕", word: "Rejected", tone: "bad" },
};

export const TITLES = {
  orchestrator: { name: "Orchestrator", idea: "One coordinator knows the sequence and sends commands." },
  choreography: { name: "Choreography", idea: "No service knows the sequence; each reacts to events." },
};

export const ended = (order) => order.state === "COMPLETED" || order.state === "REJECTED";

/** Whether the order stays as it is without an operator. */
export const settled = (order) => ended(order) || order.state === "NEEDS_ATTENTION";

/** Whether a message reports a step that cannot succeed without an operator. */
export const isEscalation = (entry) => entry.name.endsWith("StepFailed") || entry.name === "MarkForAttention";

export const titleOf = (mode) => TITLES[mode]?.name ?? mode;

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 100 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

export const plain = (reason) => String(reason ?? "").replaceAll("_", " ");

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** The workers that have not answered for a second or longer, with the command and the time; empty if there are none. */
export function overdueWorkers(order, now) {
  const late = order.waiting.filter((one) => now - one.since >= 1);
  return late.map((one) => `${one.worker} for ${one.deed}, ${seconds(now - one.since)}`).join("; ");
}

/** The compensations in their order, and whether each had an effect. */
export function undone(order) {
  if (!order.undone.length) return "nothing";
  const effect = ({ had_effect: had }) => (had ? "" : had === null ? " (in doubt)" : " (nothing was held)");
  return order.undone.map((one) => one.command + effect(one)).join(", then ");
}

/** What the style did about this order, in one or two sentences: which worker decided, and because of which message. */
export function styleSummary(order) {
  const causeOf = (entry) => order.entries[entry.cause - 1];
  if (order.mode === "orchestrator") {
    const commands = order.entries.filter((entry) => entry.sender === "coordinator" && entry.command);
    const back = commands.filter((entry) => entry.rollback);
    const undoing = back.map((entry) => entry.name).join(", then ");
    if (back.length) return `The coordinator received ${causeOf(back[0])?.name ?? "a refusal"} and sent ${undoing}.`;
    const each = commands.length > 1 ? ", each after the answer to the one before" : "";
    return commands.length ? `The coordinator sent ${count(commands.length, "command")}${each}.` : "";
  }
  const reactions = order.entries.filter((entry) => entry.deed && causeOf(entry) && !causeOf(entry).command);
  const back = reactions.filter((entry) => causeOf(entry).rollback);
  const sentence = (entry) =>
    `${entry.sender} received ${causeOf(entry).name} and ${isEscalation(entry) ? "could not do" : "did"} ${entry.deed}`;
  const sentences = [...new Set((back.length ? back : reactions).map(sentence))].join("; ");
  return sentences && `${back.length ? "No coordinator was involved" : "A chain of reactions"}: ${sentences}.`;
}

/** A comparison of both lanes. `left` and `right` are the same order in both modes. */
export function comparison(left, right) {
  const time = (order) => (ended(order) ? `in ${seconds(order.took_s)}` : "so far");
  const size = (order) => `${titleOf(order.mode)}: ${count(order.entries.length, "message")} ${time(order)}.`;
  const sizes = `${size(left)} ${size(right)}`;
  if (!ended(left) || !ended(right)) return `Not ended in both lanes yet. ${sizes}`;
  if (left.state !== right.state || left.reason !== right.reason)
    return `${endOf(left)}, ${endOf(right).replace(/^./, (letter) => letter.toLowerCase())}. ${sizes}`;
  const [here, there] = [left, right].map((order) => order.undone.filter((one) => one.had_effect).map((one) => one.command));
  const alike = here.length ? " and undid the same steps in the same order" : "";
  const undid = here.join() === there.join() ? alike : " but undid differently";
  const both = `Both ${STATES[left.state].word.toLowerCase()} it${undid}.`;
  return [both, alsoAsked(left, right), alsoAsked(right, left), sizes].filter(Boolean).join(" ");
}

function endOf(order) {
  const reason = order.reason ? ` (${plain(order.reason)})` : "";
  return `${titleOf(order.mode)} ${STATES[order.state].word.toLowerCase()} it${reason}`;
}

/** The services that compensated without effect in `order` and were not called in `other`. */
function alsoAsked(order, other) {
  const asked = new Set(other.undone.map((one) => one.command));
  const withoutEffect = order.undone.filter((one) => !one.had_effect && !asked.has(one.command));
  const services = withoutEffect.map((one) => order.entries[one.entry - 1].sender);
  return services.length ? `${titleOf(order.mode)} also asked ${services.join(" and ")}, which held nothing.` : "";
}
