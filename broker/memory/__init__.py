"""The transport in memory: a broker with quorum queues, topic exchanges, delays and dead letters in one process.

Behaves like RabbitMQ wherever the transport protocol can tell. Knows nothing of the worker loop or of RabbitMQ's client.
"""
