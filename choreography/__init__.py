"""The choreographed mode: each service reacts to the others' events.

`reactions.py` is the whole sequence, `reaction.py` one row of it, `wiring.py` what each worker accepts. Of the services it
imports messages and names only. Imports broker/, store/ and services/; does not import orchestrator/.
"""
