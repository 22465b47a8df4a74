"""The orchestrated mode: a central saga sends commands and compensations.

`fulfilment.py` is the saga, `saga.py` the pure `advance`, `coordinator.py` the worker that runs it, `wiring.py` what each
worker accepts. Sees only the services' messages. Imports broker/, store/ and services/; does not know choreography/.
"""
