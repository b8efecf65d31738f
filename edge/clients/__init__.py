"""Clients that train with the exported files, in Python, C and LiteRT.js, and the files that they exchange."""
