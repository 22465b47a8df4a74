"""Parts of the worker loop: inputs, batch, external calls, timers, outbox relay, retry, poison messages, fault injection.

`broker.worker` puts them together. They use the transport protocol and know neither RabbitMQ nor the in-memory broker.
"""
