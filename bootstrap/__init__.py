"""The composition root: builds workers and their parts from a mode and a back end.

`modes.py` names the modes, `build_worker.py` builds one worker, `server_backend.py` and `memory_backend.py` provide transport,
store and gateway client. Imports the rooms below; ops/, lab/, dashboard/ and cli/ import it.
"""
