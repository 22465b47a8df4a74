"""What breaks the system and judges it: journeys, storm, simulation, chaos.

No production process loads this room. Imports ops/, bootstrap/ and the rooms below.
"""
