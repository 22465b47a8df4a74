"""Tools for operators, not for customers: audit, dead letters, stock, permissions, credentials and the doctor.

Imports bootstrap/ and the rooms below; never lab/, dashboard/ or cli/.
"""
