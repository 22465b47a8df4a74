"""The choreographed mode: each service reacts to the others' events.

`reactions.py` is the whole sequence, `wiring.py` turns it into what each worker accepts. Sees only the services' messages.
Imports broker/, store/ and services/; does not know orchestrator/.
"""
