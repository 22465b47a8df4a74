"""The payment gateway: somebody else's system, a stand-in for a bank's.

It imports nothing of ours, and ours talk to it over HTTP (`services/payment/gateway_http.py`) or, in the embedded run, through
`bootstrap/in_process_gateway.py`. Read `rules.py` (what is answered), `books.py` (what is remembered), `app.py` (how it is
asked).
"""
