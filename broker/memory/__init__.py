"""In-memory transport: a broker with quorum queues, topic exchanges, delays and dead letters in one process.

It behaves like RabbitMQ as far as the transport protocol can observe. It uses neither the worker loop nor RabbitMQ's client.
"""
