"""Flower in the race: its FedAvgM by its simulation engine, one CPU a client, so that Ray runs one actor on each core.

Two actors of one thread are faster than one of two threads on two cores.
"""

from __future__ import annotations

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import torch
from cifg_torch import CifgLoss
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvgM
from flwr.simulation import run_simulation
from work import CLIENT_LEARNING_RATE, SERVER_LEARNING_RATE, SERVER_MOMENTUM, Progress, Work, arguments, read_work


def build_client(path: str) -> ClientApp:
    """Returns the client: node i trains on client i's batches of the round.

    The work stays in its file: Ray sends the client to an actor with every message.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        round_num = int(message.content["config"]["server-round"])
        client = read_work(path).rounds[round_num - 1][int(context.node_config["partition-id"])]
        arrays = message.content["arrays"].to_numpy_ndarrays()
        weights = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
        optimizer = torch.optim.SGD(weights, CLIENT_LEARNING_RATE)
        for batch in zip(*client):
            optimizer.zero_grad()
            CifgLoss.apply(*weights, *map(torch.from_numpy, batch)).backward()
            optimizer.step()
        content = RecordDict(
            {
                "arrays": ArrayRecord([w.detach().numpy() for w in weights]),
                "metrics": MetricRecord({"num-examples": client.num_examples}),
            }
        )
        return Message(content=content, reply_to=message)

    return app


def build_server(work: Work, progress: Progress) -> ServerApp:
    """Returns the server, which tells the race where the strategy would evaluate."""
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        num_clients = len(work.rounds[0])
        strategy = FedAvgM(
            fraction_evaluate=0.0,
            min_train_nodes=num_clients,
            min_available_nodes=num_clients,
            server_learning_rate=SERVER_LEARNING_RATE,
            server_momentum=SERVER_MOMENTUM,
        )

        def tell(round_num: int, arrays: ArrayRecord) -> None:
            if round_num == 0:
                progress.begin()
            else:
                progress.round_done()

        result = strategy.start(
            grid,
            ArrayRecord(list(work.start)),
            num_rounds=len(work.rounds),
            train_config=ConfigRecord(),
            evaluate_fn=tell,
        )
        progress.end(work.start, [np.asarray(array) for array in result.arrays.to_numpy_ndarrays()])

    return app


def main() -> None:
    """Runs the rounds."""
    path, address, _ = arguments()
    work, progress = read_work(path), Progress(address)
    run_simulation(
        build_server(work, progress),
        build_client(path),
        num_supernodes=len(work.rounds[0]),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
