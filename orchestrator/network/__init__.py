"""Rounds over real connections, one process for each party: clients over gRPC with TLS, phones over WebSocket.

    certificates.py  the files of keys, and the roster
    authority.py     makes the keys of a run, and signs certificates
    enrolment.py     enrols clients that made their own keys
    messages.py      the messages besides those of the protocols
    tls.py           the certificates that each side shows and asks for
    hub.py           the server's connections: who is there and who answered in time
    web_door.py      the server's door for browsers, beside gRPC: page, enrolment, rounds
    web_rounds.py    rounds over WebSocket
    web_site.py      the files that the web door hands out, and the headers around them
    lobby.py         enrols phones by code before the first round
    places.py        how many connections a port has, in all and of one network
    listening.py     builds gRPC servers and opens ports
    challenges.py    the nonces by which clients prove who they are
    session.py       one round's conversations, with deadlines and costs
    network_sum.py   the sum of one round: the server's side of each protocol
    server.py        the server's rounds
    serve.py         the work of `fedkeys serve` around the rounds
    channel.py       the calling side: TLS, the stream, and an error for each failure
    client.py        a client: its text, its training, its half of the protocol
    client_process.py  the process around it: its keys, its connection
    bundle_trainer.py  its training through the C library
    own_text.py      reads a client's text
    journal.py       the rounds that a client answered, on its disk
    pace.py          when a client's answers leave
    demands.py       what a client insists on
    service.py       what decryptor and helpers are called by
    decryptor.py     the third party of the encrypted sum
    helper.py        the other parties of the split sum

The protocols are those of orchestrator/secagg, homomorphic and split, message for message and byte for byte.
"""
