"""Order, inventory, payment and delivery: the messages, domain and handlers that both modes share.

A service knows neither mode and no other service; `vocabulary.py` is all that they share. Rooms above may import `messages`,
`message_types`, `faults` and `vocabulary`; only the composition (bootstrap/) and the judges (ops/, lab/) see handlers and
documents. Imports broker/ and store/ only.
"""
