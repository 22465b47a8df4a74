"""The HTTP API: customers place, withdraw and follow orders.

A worker of its own: it sends the order service's two commands, consumes events, and reads no service's data. Imports
orchestrator/, services/, broker/ and store/. Its clients for the CLI, the dashboard and the lab are `http_client.py` and
`broker_client.py`.
"""
