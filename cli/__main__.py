"""`python -m cli` is `saga`."""

from cli.app import main

main()
