"""Capture: from PostgreSQL to typed changes."""
