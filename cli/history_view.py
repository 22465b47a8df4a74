"""Prints an order's history in the terminal: root cause, path, compensations, pending reactions, remaining steps.

The history itself is built by observer/history.py.
"""

import time
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from cli.output import data
from observer.entry import Entry
from observer.history import History
from services.vocabulary import ObservedState

_STATE_STYLES = {ObservedState.COMPLETED: "green", ObservedState.REJECTED: "red", ObservedState.NEEDS_ATTENTION: "bold red"}
#: What a compensation found, by its `had_effect`.
_EFFECT_NOTES = {True: "", None: ", in doubt: the success of its step was not observed", False: ", which found nothing to undo"}


def history_as_json(history: History, now: float) -> dict[str, object]:
    """The history as `--json` prints it. `waited_s`: seconds since the last progress of an open order, else None."""
    return {**history.as_dict(), "waited_s": None if history.ended else round(now - history.moved_at, 3)}


def print_history(history: History, now: float) -> None:
    """Print a history as text. `now`: seconds since the epoch, by the same clock as the timestamps of the messages."""
    _print_head(history)
    data.print(_path(history))
    for what, lines in (
        ("undone", _undone(history)),
        ("waits for", _waiting(history, now)),
        ("remains", _remains(history)),
        ("not known", history.gaps),
        ("next", _next(history)),
    ):
        for number, line in enumerate(lines):
            data.print(Text(f"{what + ':' if number == 0 else '':>10} {line}", overflow="fold"), highlight=False, soft_wrap=True)


def state_text(history: History) -> Text:
    """State and reason of an order, coloured by the state."""
    style = _STATE_STYLES.get(history.state, "yellow")
    return Text(" ".join(filter(None, (history.state, history.reason))), style=style)


def _print_head(history: History) -> None:
    head = Text(f"{history.order_id}  ").append_text(state_text(history))
    head.append(f"  {history.mode}", style="dim")
    head.append(f", {history.took_s:.3f} s" if history.took_s is not None else "", style="dim")
    why = Text("why: ", style="bold")
    why.append(history.why + (f" (#{history.root})" if history.root else ""))
    data.print(head, soft_wrap=True, highlight=False)
    data.print(why, soft_wrap=True, highlight=False)
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(history.began_at))
    wanted = f"wanted {history.wanted}, " if history.wanted else ""
    injected = f", injected: {history.injected}" if history.injected else ""
    data.print(Text(f"{wanted}first observed {began}{injected}", style="dim"), soft_wrap=True, highlight=False)


def _path(history: History) -> Table:
    table = Table("#", "seconds", "message", "because", box=None, pad_edge=False, header_style="dim")
    table.columns[0].justify = table.columns[1].justify = "right"
    for entry in history.entries:
        number = Text(str(entry.number), style="bold red" if entry.number == history.root else "")
        path = arrow(entry.sender, entry.takers, entry.name, command=entry.command, rollback=entry.rollback)
        table.add_row(number, f"{entry.since_start_s:.3f}", path, cause_text(entry, history))
    return table


def arrow(sender: str, takers: Sequence[str], name: str, *, command: bool, rollback: bool) -> Text:
    """A line such as `order ──▶ inventory  ReserveStock`: commands solid, events dashed, rollbacks red and marked with ↩."""
    line = Text(f"{sender:>11} {'──▶' if command else '┄┄▷'} {'+'.join(takers) or '·':<11} ", overflow="fold")
    style = "red" if rollback else "cyan" if command else "green"
    return line.append(("↩ " if rollback else "  ") + name, style=style)


def cause_text(entry: Entry, history: History) -> Text:
    """The cause of a message: who did what after which message. Then its facts, waits, retries and dead letter."""
    text = Text(overflow="fold")
    inherited: Mapping[str, str] = {}
    if entry.cause:
        trigger = history.entries[entry.cause - 1]
        inherited = trigger.facts
        text.append(f"{entry.sender} {_action(entry, trigger)} (#{entry.cause})")
    elif entry.missing_cause:
        text.append("after a message that was not observed", style="yellow")
    else:
        text.append("requested from outside")
    facts = [f"{name}: {value}" for name, value in entry.facts.items() if inherited.get(name) != value]
    attempts = [f"{entry.attempts} attempts"] if entry.attempts > 1 else []
    dead = [f"DEAD LETTER: {entry.dead}"] if entry.dead else []
    waited = [f"waited {entry.wait}"] if entry.wait else []
    for note in (*facts, *waited, *attempts, *dead):
        text.append(f"\n{note}", style="bold red" if note in dead else "yellow" if note in waited or note in attempts else "dim")
    return text


def _action(entry: Entry, trigger: Entry) -> str:
    if entry.deed is None:
        return f"decided after {trigger.name}"
    return f"answered {trigger.name}" if entry.deed == trigger.name else f"did {entry.deed} after {trigger.name}"


def _undone(history: History) -> list[str]:
    return [f"{undone.command} (#{undone.entry}){_EFFECT_NOTES[undone.had_effect]}" for undone in history.undone]


def _waiting(history: History, now: float) -> list[str]:
    return [
        f"{waiting.worker} to do {waiting.deed}, triggered by {history.entries[waiting.entry - 1].name} (#{waiting.entry}) "
        f"{max(now - waiting.since, 0.0):.1f} s ago"
        for waiting in history.waiting
    ]


def _next(history: History) -> list[str]:
    """What an operator can do for an order that does not progress by itself."""
    if history.state is not ObservedState.NEEDS_ATTENTION:
        return []
    return [f"fix what failed, then saga order redrive {history.order_id} --mode {history.mode}"]


def _remains(history: History) -> list[str]:
    if history.ended:
        return ["nothing"]
    return [" > ".join(history.remains), *([f"({history.remains_note})"] if history.remains_note else [])]
