"""pfl-research in the race: its FederatedAveraging on its SimulatedBackend, in two processes of one thread.

On two cores they are faster than one process of two threads. torchrun starts them, as its manual says.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Optional

import torch
from cifg_torch import CifgLoss
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from work import (
    BATCH,
    CLIENT_LEARNING_RATE,
    SERVER_LEARNING_RATE,
    SERVER_MOMENTUM,
    Progress,
    Weights,
    Work,
    arguments,
    read_work,
)

NUM_PROCESSES = 2


class Cifg(torch.nn.Module):
    """The model as pfl-research wants it."""

    def __init__(self, start: Weights):
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.from_numpy(w.copy()) for w in start)

    def loss(self, tokens, targets, mask):
        """Returns the loss to minimise."""
        return CifgLoss.apply(*self.weights, tokens, targets, mask)

    def metrics(self, tokens, targets, mask):
        """Counts sentences: pfl-research evaluates before the first round, and wants a metric."""
        return {"sentences": Weighted.from_unweighted(len(tokens))}


class Told(TrainingProcessCallback):
    """Tells the race, from the first of the processes; all of them wait for the turn.

    Each process could begin its half of the next round as soon as it has the sum, and so would compute in the turns of
    others.
    """

    def __init__(self, progress: Optional[Progress]):
        self._progress = progress

    def on_train_begin(self, *, model):
        """Says that the rounds begin."""
        if self._progress:
            self._progress.begin()
        torch.distributed.barrier()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Says that a round is over."""
        if self._progress:
            self._progress.round_done()
        torch.distributed.barrier()
        return False, Metrics()


def people(work: Work) -> FederatedDataset:
    """Returns the clients as users, numbered through all rounds: each is drawn with the batches of its round."""
    users = list(itertools.chain.from_iterable(work.rounds))
    counter = itertools.count()

    def sentences_of(user: int) -> Dataset:
        return Dataset([torch.from_numpy(field.reshape(-1, field.shape[-1])) for field in users[user]])

    return FederatedDataset(sentences_of, lambda: next(counter) % len(users))


def main() -> None:
    """Runs the rounds."""
    torch.set_num_threads(1)
    path, address, _ = arguments()
    work = read_work(path)
    module = Cifg(work.start)
    progress = Progress(address) if os.environ["RANK"] == "0" else None
    server = torch.optim.SGD(module.parameters(), SERVER_LEARNING_RATE, momentum=SERVER_MOMENTUM)
    model = PyTorchModel(module, torch.optim.SGD, server)
    data = people(work)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=len(work.rounds),
            evaluation_frequency=len(work.rounds) + 1,
            train_cohort_size=len(work.rounds[0]),
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data, [WeightByDatapoints()]),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=CLIENT_LEARNING_RATE, local_batch_size=BATCH),
        callbacks=[Told(progress)],
    )
    if progress:
        progress.end(work.start, [w.detach().numpy() for w in module.weights])


def start_processes() -> None:
    """Becomes torchrun, which calls this script again, once for each process."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_PROCESSES)]
    os.environ["OMP_NUM_THREADS"] = "1"
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])


if __name__ == "__main__":
    main() if "RANK" in os.environ else start_processes()
