"""The inventory service: holds and releases stock."""
