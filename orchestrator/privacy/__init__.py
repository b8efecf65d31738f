"""User-level differential privacy: mechanisms, the noise they add, what it costs, and the ledger of it.

noise          the sealed seed, and Gaussian noise from it: AES-CTR, never the simulation's generators
correlated     noise that rounds share: tree aggregation, banded matrix factorisation
bands          over how many rounds the matrix's noise is correlated, for the least noise in a memory
sensitivity    what one person can change in the tree's nodes or the matrix's rows
accounting     from dp_accounting's events to zCDP and epsilon
participation  who has taken part, how often, how far apart, and what that cost
ledger         what is charged, on disk before anything is released
calibration    from a budget to a noise multiplier; fills in what the settings leave open
mechanism      binds a run's settings to a round
comparison     what each mechanism would cost, and how well its noise adds up
"""
