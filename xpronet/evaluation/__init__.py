"""Scores of generated reports, and the floors they must beat."""
