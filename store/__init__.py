"""The store of one worker: documents, inbox and outbox, written in one commit.

`protocol.py` is the interface; `memory.py` and `mongo/` implement it and pass one contract suite (tests/store/). The store knows
neither messages nor the business: a record's body and an outbox row's payload are opaque. It imports no other room; every room
above may import it.
"""
