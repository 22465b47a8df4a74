"""The journeys: named orders with their failures and expected ends, and the run that plays them in either mode."""
