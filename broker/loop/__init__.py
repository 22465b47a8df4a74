"""The parts of the worker loop: batch, inputs, external calls, timers, outbox relay, retry, poison messages, fault injection.

Only `broker.worker` puts them together. They know the transport as a protocol, never RabbitMQ or the in-memory broker.
"""
