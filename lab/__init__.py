"""The test laboratory: journeys, storm, simulation, chaos, and the invariants they check.

No production process loads this room. It imports ops/, bootstrap/ and the rooms below.
"""
