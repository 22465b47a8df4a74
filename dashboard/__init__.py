"""The web page: both modes at work, live.

`app.py` serves the page and its JSON, `event_stream.py` its server-sent events, `lanes/` the modes shown, `static/` the files.
The contract with the page is docs/reference/dashboard.md. Imports lab/ for the embedded run only, api/, observer/ and the rooms
below.
"""
