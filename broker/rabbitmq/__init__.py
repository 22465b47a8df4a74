"""RabbitMQ transport.

`transport.py` implements the protocol with `connection.py` (aio-pika), `channels.py` and `frames.py` (AMQP frames). Only
`connection.py` and `permission_probes.py` import aio-pika, in the whole product. The package uses neither the worker loop nor the
in-memory transport.
"""
