"""The orchestrated mode: a coordinator runs a saga that sends commands and compensations.

`fulfilment.py` is the saga, `saga.py` the pure `advance`, `coordinator.py` the worker that runs it, `wiring.py` what each
worker accepts, `remaining_steps.py` what an order still has to go through. Of the services it imports messages and names only.
Imports broker/, store/ and services/; does not import choreography/.
"""
