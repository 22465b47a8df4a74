"""Messages, topology, transport and the worker loop: carries a message so that its effect happens once.

`worker.py` is the loop that every worker of both modes runs; `loop/` holds its parts. `transport.py` is the protocol that
`rabbitmq/` and `memory/` implement. The room knows no service and no mode. It imports store/ only; every room above may import
it.
"""
