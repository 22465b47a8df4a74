"""The traces of 50 seeds a mode have the digests recorded in docs/proof/traces.json.

The digests were made from the traces of commit cdab4b5, the last one before rooms and names changed, after the replacements of
docs/proof/renames.json; so equal digests show that the renaming left every line of these runs as it was. How the old traces were
made: docs/proof.md#recorded-traces. A deliberate change of behaviour, or of the words of a trace, replaces
docs/proof/traces.json: `python -m tests.support.simulation.traces --write`.
"""

import pytest

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from tests.support.simulation.traces import SEEDS, current_digests, differing_seeds, recorded_digests


@pytest.mark.parametrize("mode", Mode)
def test_traces_have_the_recorded_digests(mode: Mode) -> None:
    silence_logs()
    recorded = recorded_digests(mode)
    assert list(recorded) == [str(seed) for seed in SEEDS]
    different = differing_seeds(current_digests(mode), recorded)
    assert not different, (
        f"{mode}: the traces of seeds {', '.join(different)} changed. If the change of behaviour is deliberate, record it with "
        "`python -m tests.support.simulation.traces --write`; otherwise see `saga simulate --seed N --mode M --trace`."
    )
