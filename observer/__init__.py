"""An order's history from the messages alone: why it ended as it did, where it waited, what remains to be done.

The observer subscribes to every message of a mode, stores what it sees in its own database, and decides nothing. Imports
orchestrator/, choreography/, services/, broker/ and store/.
"""
