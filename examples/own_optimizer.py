"""A server optimiser of one's own in place of the settings': any of tff.learning.optimizers."""

import sys
import tempfile

from train_and_predict import texts, tiny

from orchestrator import api

if __name__ == "__main__":
    import tensorflow_federated as tff

    from orchestrator.run.training import Parts

    folder = sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/run"
    momentum = tff.learning.optimizers.build_sgdm(learning_rate=0.5, momentum=0.9)
    settings = {**tiny, "server.learning_rate": 0.5}  # the rate of the steps is the settings'
    run = api.train(folder, texts, preset="smoke", settings=settings, parts=Parts(server_optimizer=momentum))
    print(f"loss {run.rounds[0].metric('train_loss'):.2f} -> {run.rounds[-1].metric('train_loss'):.2f} nats a word")
