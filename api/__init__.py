"""The HTTP API through which customers place, withdraw and follow orders.

A worker of its own: it sends the order service's two commands, listens to events, and reads no service's data. Imports observer/,
services/, broker/ and store/. `http_client.py` and `broker_client.py` are its clients for the CLI and the lab.
"""
