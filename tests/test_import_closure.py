"""The modules that a production process loads: no lab, no operators' tools, no payment gateway.

import-linter cannot check this. It follows imports inside functions, and `saga worker gateway` loads the payment gateway by
one; it also counts the imports of other commands in the package. A fresh interpreter shows which modules are loaded.
"""

import json
import subprocess
import sys

import pytest

from bootstrap.modes import Mode

#: Imports a module, then prints the top-level packages that are loaded.
PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def loaded_by(module: str) -> set[str]:
    """The top-level packages in a fresh interpreter that has imported `module`."""
    probe = subprocess.run([sys.executable, "-c", PROBE, module], capture_output=True, text=True, check=True)
    return set(json.loads(probe.stdout))


@pytest.mark.parametrize("command", ["api", "up", "worker", "worker_observer"])
def test_production_commands_load_no_lab_no_ops_and_no_payment_gateway(command: str) -> None:
    assert not {"lab", "ops", "payment_gateway"} & loaded_by(f"cli.commands.{command}")


@pytest.mark.parametrize("mode", Mode)
def test_mode_does_not_load_the_other_mode(mode: Mode) -> None:
    assert not {*Mode} - {mode} & loaded_by(f"{mode}.wiring")


@pytest.mark.parametrize("room", ["orchestrator.wiring", "choreography.wiring", "api.app", "observer.recorder"])
def test_modes_api_and_observer_load_no_handlers(room: str) -> None:
    probe = [sys.executable, "-c", PROBE.replace('name.split(".")[0]', "name"), room]
    modules = json.loads(subprocess.run(probe, capture_output=True, text=True, check=True).stdout)
    assert [name for name in modules if name.startswith("services.") and name.endswith((".handlers", ".domain"))] == []
