"""Measures whom a model serves well and whom badly, from sums over people in which no one person can be read."""
