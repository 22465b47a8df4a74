"""The speed table of the README, measured: our workers against the chains that a user would write first. `make bench`."""
