"""Draws the pictures of the report, by subject."""
