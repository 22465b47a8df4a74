"""`saga`, the command-line program.

`commands/` has one command a module; beside it stands the plumbing they share. The only room that may import every other.
"""
