"""Generates the parts of README.md and docs/ that describe the code: `python -m cli.docs.generate`, or `make docs`."""
