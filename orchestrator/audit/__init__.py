"""Attacks and audits of a run: what its updates and its model give away, measured."""
