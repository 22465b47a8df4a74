"""The order service: places, completes, rejects and withdraws orders, and owns their deadline."""
