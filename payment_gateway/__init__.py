"""The payment gateway: a stand-in for the external system of a bank or payment provider.

It imports no other room. The payment service calls it over HTTP (`services/payment/gateway_http.py`) or, in the embedded run,
through `bootstrap/in_process_gateway.py`. Read `rules.py` (what is answered), `books.py` (what is stored) and `app.py` (the HTTP
interface).
"""
