"""The web page that shows both modes live.

`app.py` serves the page and its JSON, `event_stream.py` the server-sent events, `lanes/` has one module for each way to show a
mode, `static/` the page's files. The HTTP contract is docs/reference/dashboard.md.

May import lab/ (for the in-memory demo only), api/, observer/ and the rooms below them. Imported by cli/.
"""
