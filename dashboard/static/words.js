// What the page says in words: states, durations, and what each style did about an order. Pure functions of what was told.

export const STATES = {
  ACCEPTED: { icon: "▸", word: "Accepted", tone: "run" },
  PENDING: { icon: "▸", word: "Under way", tone: "run" },
  NEEDS_ATTENTION: { icon: "!", word: "Needs attention", tone: "bad" },
  COMPLETED: { icon: "✓", word: "Completed", tone: "good" },
  REJECTED: { icon: "✕", word: "Rejected", tone: "bad" },
};

export const TITLES = {
  orchestrator: { name: "Orchestrator", idea: "One coordinator knows the sequence and sends commands." },
  choreography: { name: "Choreography", idea: "Nobody knows the sequence; each service reacts to events." },
};

export const ended = (told) => told.state === "COMPLETED" || told.state === "REJECTED";

/** Whether it stays as it is unless somebody acts. */
export const settled = (told) => ended(told) || told.state === "NEEDS_ATTENTION";

/** Whether a message says that something has failed for good. */
export const callsForHelp = (entry) => entry.name.endsWith("StepFailed") || entry.name === "MarkForAttention";

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

/** Who has not answered for a second or longer, and what; nothing if nobody keeps the order waiting for so long. */
export function waitedFor(told, now) {
  const late = told.waiting.filter((one) => now - one.since >= 1);
  return late.map((one) => `${one.worker} for ${one.deed}, ${seconds(now - one.since)}`).join("; ");
}

/** The compensations, in their order, and whether each found something to undo. */
export function undone(told) {
  if (!told.undone.length) return "nothing";
  return told.undone.map((one) => one.command + (one.had_effect ? "" : one.had_effect === null ? " (in doubt)" : " (nothing was held)")).join(", then ");
}

/** What the style did about this order, in one or two sentences: who decided, and by what. */
export function whatTheStyleDid(told) {
  const causeOf = (entry) => told.entries[entry.cause - 1];
  if (told.mode === "orchestrator") {
    const commands = told.entries.filter((entry) => entry.sender === "coordinator" && entry.command);
    const back = commands.filter((entry) => entry.rollback);
    const asked = back.map((entry) => entry.name).join(", then ");
    if (back.length) return `The coordinator heard ${causeOf(back[0])?.name ?? "a refusal"} and commanded ${asked}.`;
    const each = commands.length > 1 ? ", each after the answer to the one before" : "";
    return commands.length ? `The coordinator sent ${count(commands.length, "command")}${each}.` : "";
  }
  const reactions = told.entries.filter((entry) => entry.deed && causeOf(entry) && !causeOf(entry).command);
  const back = reactions.filter((entry) => causeOf(entry).rollback);
  const sentence = (entry) =>
    `${entry.sender} heard ${causeOf(entry).name} and ${callsForHelp(entry) ? "could not do" : "did"} ${entry.deed}`;
  const said = [...new Set((back.length ? back : reactions).map(sentence))].join("; ");
  return said && `${back.length ? "Nobody was in charge" : "A chain of reactions"}: ${said}.`;
}

/** Both lanes in one line. `left` and `right` are the same order in both modes. */
export function compared(left, right) {
  const size = (told) =>
    `${titleOf(told.mode)}: ${count(told.entries.length, "message")} ${ended(told) ? `in ${seconds(told.took_s)}` : "so far"}.`;
  const sizes = `${size(left)} ${size(right)}`;
  if (!ended(left) || !ended(right)) return `Not ended in both yet. ${sizes}`;
  if (left.state !== right.state || left.reason !== right.reason)
    return `${endOf(left)}, ${endOf(right).replace(/^./, (letter) => letter.toLowerCase())}. ${sizes}`;
  const [here, there] = [left, right].map((told) => told.undone.filter((one) => one.had_effect).map((one) => one.command));
  const alike = here.length ? " and undid the same in the same order" : "";
  const undid = here.join() === there.join() ? alike : " but undid differently";
  const both = `Both ${STATES[left.state].word.toLowerCase()} it${undid}.`;
  return [both, askedInVain(left, right), askedInVain(right, left), sizes].filter(Boolean).join(" ");
}

function endOf(told) {
  const reason = told.reason ? ` (${plain(told.reason)})` : "";
  return `${titleOf(told.mode)} ${STATES[told.state].word.toLowerCase()} it${reason}`;
}

/** Whom `told` asked to undo what was not held there, and `other` did not ask. */
function askedInVain(told, other) {
  const asked = new Set(other.undone.map((one) => one.command));
  const vain = told.undone.filter((one) => !one.had_effect && !asked.has(one.command));
  const services = vain.map((one) => told.entries[one.entry - 1].sender);
  return services.length ? `${titleOf(told.mode)} also asked ${services.join(" and ")}, which held nothing.` : "";
}
