"""Data contracts in the form of the Open Data Contract Standard v3.1.0.

The walk: ``document`` reads a contract; ``types`` and ``library`` translate types and quality
checks; ``export`` makes a contract of trusted tables, ``settings`` the settings that a contract
asks for; ``check`` compares a contract with tables, ``diff`` two contracts.
"""
