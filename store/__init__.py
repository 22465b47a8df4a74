"""Documents, inbox and outbox of one worker, committed together: the protocol, and its implementations.

`protocol.py` is what the rooms above see; `memory.py` and `mongo/` implement it and pass one contract suite (tests/store/). The
room knows nothing of messages or of the business. It imports no other room; every room above may import it.
"""
