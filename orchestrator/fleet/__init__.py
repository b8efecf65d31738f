"""A training under a simulated fleet: who checks in when, and what a round gets on the virtual clock."""
