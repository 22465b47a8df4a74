"""Order, inventory, payment and delivery: the messages, documents and handlers that both modes share.

A service knows neither mode and no other service; `vocabulary.py` holds what the four have in common. Modes, API and observer
import `messages`, `message_types`, `faults` and `vocabulary`, never handlers or documents. Imports broker/ and store/ only.
"""
