"""The store on MongoDB.

`store.py` implements the protocol; the other modules are its connection, transaction, preflight checks, error translation, row
layout, administration and permission probes. In the product, motor is imported in `connection.py` only, and pymongo and bson in
this package only; import-linter checks it.
"""
