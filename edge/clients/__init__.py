"""Clients that train with the exported files: LiteRT in Python, the C program, and the files that both exchange."""
