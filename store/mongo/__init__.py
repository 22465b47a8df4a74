"""The store on MongoDB.

`store.py` implements the protocol; the other modules are its connection, transaction, preflight checks, error translation, row
layout and administration. motor is imported in `connection.py` only; pymongo and bson nowhere outside this package.
"""
