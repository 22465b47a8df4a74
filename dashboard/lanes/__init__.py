"""One module for each way to show a mode: the in-memory demo, the observer's process, this HTTP API, another mode's HTTP API."""
