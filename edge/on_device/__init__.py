"""What runs a bundle: one client's part of a round from it, and the benchmark of it on this machine."""
