"""The physics of a fleet of phones: how fast they are, when they are eligible, what a participation takes."""
