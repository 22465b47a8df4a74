"""The message flow: derived from the two tables, true of all journeys, and able to show a step that is in only one of them."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from bootstrap.modes import Mode
from choreography.reactions import REACTIONS
from lab.journeys.catalogue import JOURNEYS
from observer.history import build_history
from observer.mermaid import edges, flowchart
from observer.message_flow import MESSAGE_FLOWS, MessageFlow, choreography_flow, orchestrator_flow
from orchestrator.fulfilment import FULFILMENT
from orchestrator.saga import Saga
from services.message_types import API_COMMANDS
from services.order.messages import ANSWERS
from services.payment.messages import AuthorizePayment
from tests.support.journey_observations import journey, told
from tests.support.system import MODES


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_every_message_of_a_journey_is_a_possible_effect_of_its_cause(mode: Mode, name: str) -> None:
    entries = told(mode, name).entries
    for entry in entries:
        if entry.cause:
            assert entry.type in MESSAGE_FLOWS[mode].possible_effects[entries[entry.cause - 1].type], entry


def test_only_the_orchestrated_mode_has_a_coordinator() -> None:
    assert MESSAGE_FLOWS[Mode.ORCHESTRATOR].has_coordinator
    assert not MESSAGE_FLOWS[Mode.CHOREOGRAPHY].has_coordinator


def test_only_choreography_undoes_a_withdrawal_from_the_pivot_on() -> None:
    assert MESSAGE_FLOWS[Mode.CHOREOGRAPHY].pivot_first
    assert not MESSAGE_FLOWS[Mode.ORCHESTRATOR].pivot_first


def test_every_command_of_the_api_has_its_answers() -> None:
    assert set(API_COMMANDS) <= set(ANSWERS)


# --- a step that is in only one of the two tables -------------------------------------------------------------------------


def without_payment(saga: Saga) -> Saga:
    return replace(saga, steps=tuple(step for step in saga.steps if step.command is not AuthorizePayment))


def assert_usable(flow: MessageFlow) -> None:
    """The diagrams and the history of a happy order can be made from the flow."""
    assert flowchart(flow).startswith("flowchart LR")
    assert build_history(flow, journey(Mode(flow.mode), "happy")).state == "COMPLETED"


def test_reaction_that_the_saga_lacks_is_part_of_the_flow() -> None:
    flow = choreography_flow(REACTIONS, without_payment(FULFILMENT))
    assert flow.handled_commands == MESSAGE_FLOWS[Mode.CHOREOGRAPHY].handled_commands
    assert_usable(flow)


def test_step_that_the_reactions_lack_is_part_of_the_flow() -> None:
    reactions = tuple(reaction for reaction in REACTIONS if reaction.by != "payment")
    assert "payment" not in {edge.taker for edge in edges(choreography_flow(reactions, FULFILMENT))}
    assert_usable(choreography_flow(reactions, FULFILMENT))
    assert_usable(orchestrator_flow(FULFILMENT))


#: Adds a step with messages of its own to one of the tables, imports every command of the CLI, and prints the commands of each
#: mode's diagram. It needs a fresh interpreter, because message types stay registered.
PROGRAM = '''
import importlib, json, pkgutil, sys
from dataclasses import replace

from services.payment import messages

exec("""
class CheckFraud(ForwardCommand, service="payment"): ...
class ClearFraudCheck(BackwardCommand, service="payment"): ...
class FraudChecked(ForwardEvent, service="payment"): ...
class FraudSuspected(BackwardEvent, service="payment"): ...
class FraudCheckCleared(BackwardEvent, service="payment"): ...
""", vars(messages))

from choreography import reactions
from choreography.reaction import Reaction
from orchestrator import fulfilment
from orchestrator.saga import Step

if sys.argv[1] == "choreography":
    extra = Reaction(when=messages.PaymentAuthorized, by="payment", does=messages.CheckFraud)
    reactions.REACTIONS = (*reactions.REACTIONS, extra)
else:
    first, *others = fulfilment.FULFILMENT.steps
    extra = Step(
        messages.CheckFraud,
        messages.FraudChecked,
        refused=messages.FraudSuspected,
        undo=messages.ClearFraudCheck,
        undone=messages.FraudCheckCleared,
    )
    fulfilment.FULFILMENT = replace(fulfilment.FULFILMENT, steps=(first, extra, *others))

import cli.commands

for module in pkgutil.iter_modules(cli.commands.__path__):
    importlib.import_module(f"cli.commands.{module.name}")

from observer.mermaid import edges
from observer.message_flow import MESSAGE_FLOWS

print(json.dumps({mode: [edge.does or edge.message for edge in edges(flow)] for mode, flow in MESSAGE_FLOWS.items()}))
'''


@pytest.mark.parametrize("extended", MODES)
def test_cli_imports_and_draws_a_step_that_only_one_table_has(extended: Mode) -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM, extended], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert [mode for mode, commands in json.loads(result.stdout).items() if "CheckFraud" in commands] == [extended]
