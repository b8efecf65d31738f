"""The split sum: a masked vector for the aggregator, the mask's seed sealed for a helper, in one message of the client.

    client.py       masks its vector, seals a seed for each helper, signs both     holds its vector
        | upload: masked words, sealed seeds, signature
        v
    aggregator.py   checks and adds masked vectors                                 holds no seed
        | list: who signed what, with the seeds sealed for this helper
        v
    helper.py       checks the list, adds the masks, never opens a round again     holds no masked vector
        | the sum of the masks, alone
        v
    aggregator.py   takes the masks' sums from its total: the sum of the vectors

split_sum.py runs all roles in one process, as an Aggregator. messages.py defines the messages, hpke.py seals, and
opened.py keeps on disk which rounds a helper has opened. docs/security_split.md says who must be trusted.

Source: a seed as one party's share of a vector: Corrigan-Gibbs and Boneh 2017, "Prio", https://arxiv.org/abs/1703.06255.
"""
