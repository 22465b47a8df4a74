"""`python -m cli` is `saga`. Room: cli/."""

from cli.app import main

main()
