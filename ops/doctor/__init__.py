"""The checks of `saga doctor`: servers, topology, databases, clocks and permissions, each with the next step to take."""
