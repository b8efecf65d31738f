"""Secure aggregation: the server learns the sum of the clients' vectors and nothing else about them.

The protocol is that of Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281), with double masks and the consistency
round; large cohorts use the k-regular graph of Bell et al. 2020 (https://eprint.iacr.org/2020/704). Read messages.py
first: it lists the messages in their order. docs/security.md has the threat model.
"""

from orchestrator.secagg.graph import Policy
from orchestrator.secagg.simulate import SecAgg

__all__ = ["Policy", "SecAgg"]
