"""`saga`, the command-line program.

`commands/` has one command a module, `docs/` generates the documentation; the modules beside them are what commands share.
May import every other room; no room imports it.
"""
