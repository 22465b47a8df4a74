"""Journeys: scripted orders with their failures and expected ends, and the run that executes them in either mode."""
