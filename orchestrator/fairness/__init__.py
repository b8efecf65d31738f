"""Whom a model serves well and whom badly, worked out from sums over people that no one person can be read from."""
