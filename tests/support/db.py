"""Placeholder until the database fixtures arrive."""
