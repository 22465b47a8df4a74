"""Order histories, built from messages alone: why an order ended as it did, where it waited, what remains to be done.

The observer subscribes to every message of a mode and stores what it receives in its own database. It publishes nothing and
decides nothing. Imports orchestrator/, choreography/, services/, broker/ and store/.
"""
