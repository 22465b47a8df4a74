"""Entry point of `python -m cli`, which is the same as `saga`."""

from cli.app import main

main()
