"""The composition root: builds workers and their parts from a mode and a back end.

`modes.py` names the modes, `build_worker.py` builds one worker, `server_backend.py` and `memory_backend.py` provide transport,
store and gateway client. May import the two modes, services/, broker/ and store/, and payment_gateway/ for
the in-memory back end. ops/, lab/, dashboard/ and cli/ import it.
"""
