"""The traces of the first 50 seeds of each mode, compared with recorded digests in docs/proof/traces.json.

    python -m tests.support.simulation.traces --write        # record the traces of this code
    python -m tests.support.simulation.traces --compare DIR  # compare old traces in DIR, after docs/proof/renames.json

A trace file in DIR is called MODE-SEED.txt and has the form of `trace_text`.
"""

import hashlib
import json
import sys
from pathlib import Path

from bootstrap.modes import Mode
from lab.simulation.campaign import silence_logs
from lab.simulation.plan import draw_plan
from lab.simulation.run import simulate

PROOF = Path(__file__).parents[3] / "docs" / "proof"
DIGESTS, RENAMES = PROOF / "traces.json", PROOF / "renames.json"
SEEDS = range(1, 51)

#: Seed -> SHA-256 of the trace's text. Seeds are strings, because they are keys of a JSON object.
Digests = dict[str, str]


def trace_text(seed: int, mode: Mode) -> str:
    """The lines of a run's trace, followed by one line for the end of each order."""
    outcome = simulate(draw_plan(seed, mode))
    ends = [f"order {number} {end}" for number, end in outcome.ends.items()]
    return "\n".join(outcome.trace) + "\n" + "\n".join(ends) + "\n"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def current_digests(mode: Mode) -> Digests:
    """Run the seeds of a mode. Call `silence_logs` before."""
    return {str(seed): digest(trace_text(seed, mode)) for seed in SEEDS}


def recorded_digests(mode: Mode) -> Digests:
    """The digests in docs/proof/traces.json."""
    return dict(json.loads(DIGESTS.read_text())[str(mode)])


def old_digests(mode: Mode, folder: Path) -> Digests:
    """The digests of the trace files in a folder, after the replacements of docs/proof/renames.json in their order."""
    replacements = [(entry["old"], entry["new"]) for entry in json.loads(RENAMES.read_text())]
    digests = {}
    for seed in SEEDS:
        text = (folder / f"{mode}-{seed}.txt").read_text()
        for old, new in replacements:
            text = text.replace(old, new)
        digests[str(seed)] = digest(text)
    return digests


def differing_seeds(one: Digests, other: Digests) -> list[str]:
    return [seed for seed in map(str, SEEDS) if one.get(seed) != other.get(seed)]


def main(arguments: list[str]) -> int:
    """Exit code 1 when traces differ, 2 for wrong arguments."""
    match arguments:
        case ["--write"]:
            silence_logs()
            DIGESTS.write_text(json.dumps({str(mode): current_digests(mode) for mode in Mode}, indent=1) + "\n")
            return 0
        case ["--compare", folder]:
            differing = {str(mode): differing_seeds(old_digests(mode, Path(folder)), recorded_digests(mode)) for mode in Mode}
            for mode, seeds in differing.items():
                sys.stdout.write(f"{mode}: {len(SEEDS) - len(seeds)} of {len(SEEDS)} equal; different seeds: {seeds}\n")
            return 1 if any(differing.values()) else 0
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
