"""One federated round: its parts from the configuration, who takes part, and the pass from updates to weights."""
