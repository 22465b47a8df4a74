"""The transport on RabbitMQ.

`transport.py` implements the protocol on `connection.py` (aio-pika), `channels.py` and `frames.py` (AMQP bytes). Knows nothing
of the worker loop or of the in-memory transport.
"""
