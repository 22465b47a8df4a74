"""Messages, topology, transports and the worker loop: at-least-once delivery, effects exactly once.

`worker.py` is the loop that every worker of both modes runs; `loop/` holds its parts. `transport.py` is the protocol that
`rabbitmq/` and `memory/` implement. The package knows no service and no mode. Of the other packages it imports `store` only;
every package above it may import it.
"""
