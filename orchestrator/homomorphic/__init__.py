"""The encrypted sum: packed integers under BFV, in three roles that hold different keys.

    decryptor.py    makes a key for one round, opens one sum          holds the secret key
        | signed terms: public key, session, round, least count
        v
    client.py       encrypts its vector, signs what it sends          holds the public key
        | upload: ciphertexts + signature
        v
    aggregator.py   checks and adds ciphertexts                       holds no secret key
        | total: ciphertexts; transcript: who signed what
        v
    decryptor.py    counts the contributions, decrypts the total, forgets the key

encrypted_sum.py runs the three roles in one process, as an Aggregator. parameters.py says which numbers are safe,
messages.py defines the messages, and only keys.py calls the library. docs/security_encrypted_sum.md says who
must be trusted.
"""
