"""Secure aggregation: the server learns the sum of the clients' vectors and nothing else about them.

Bonawitz et al. 2017 (https://eprint.iacr.org/2017/281) with double masks and the consistency round, on the
k-regular graph of Bell et al. 2020 (https://eprint.iacr.org/2020/704) for large cohorts. Read messages.py
first: it lists what is said in which order. docs/security.md has the threat model.
"""

from orchestrator.secagg.graph import Policy
from orchestrator.secagg.simulate import SecAgg

__all__ = ["Policy", "SecAgg"]
