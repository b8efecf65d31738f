"""Makes the files of edge/conformance/, from Python's protocols with fixed keys; see scripts/make_vectors.py."""
