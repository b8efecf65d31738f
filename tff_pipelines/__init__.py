"""The client and server halves of a federated round as TFF computations, and the workers that run them."""
