"""One module for each way to show a mode: the embedded demo, the observer's process, this API, another mode's API."""
