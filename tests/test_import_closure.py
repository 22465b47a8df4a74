"""The modules that a production process loads: no lab, no operators' tools, no payment gateway.

import-linter cannot check this. It follows imports inside functions, and `saga worker gateway` loads the payment gateway by
one; it also counts the imports of other commands in the package. A fresh interpreter shows which modules are loaded.
"""

import json
import subprocess
import sys

import pytest

from bootstrap.modes import Mode

#: Imports a module, then prints the names of all loaded modules.
PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(module: str) -> set[str]:
    """The names of all modules in a fresh interpreter that has imported `module`."""
    probe = subprocess.run([sys.executable, "-c", PROBE, module], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(probe.stdout))


def rooms_after(module: str) -> set[str]:
    """The top-level packages of `modules_after`."""
    return {name.partition(".")[0] for name in modules_after(module)}


@pytest.mark.parametrize("command", ["api", "up", "worker", "worker_observer"])
def test_production_commands_load_no_lab_no_ops_and_no_payment_gateway(command: str) -> None:
    assert not {"lab", "ops", "payment_gateway"} & rooms_after(f"cli.commands.{command}")


@pytest.mark.parametrize("mode", Mode)
def test_mode_does_not_load_the_other_mode(mode: Mode) -> None:
    assert not {*Mode} - {mode} & rooms_after(f"{mode}.wiring")


@pytest.mark.parametrize("room", ["orchestrator.wiring", "choreography.wiring", "api.app", "observer.recorder"])
def test_modes_api_and_observer_load_no_handlers(room: str) -> None:
    assert [
        name for name in modules_after(room) if name.startswith("services.") and name.endswith((".handlers", ".domain"))
    ] == []


@pytest.mark.parametrize(
    ("module", "not_loaded"),
    [
        ("cli.app", {"motor", "aio_pika", "aiohttp", "fastapi", "uvicorn"}),
        ("cli.commands.worker", {"aiohttp", "fastapi", "uvicorn"}),
        ("cli.commands.order", {"fastapi", "uvicorn"}),
    ],
)
def test_command_does_not_load_large_packages_it_does_not_need(module: str, not_loaded: set[str]) -> None:
    """A mode starts seven processes, and each again after a crash, so their start must be cheap."""
    assert not not_loaded & modules_after(module)
