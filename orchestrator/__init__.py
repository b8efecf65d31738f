"""The server: configuration, cohorts, aggregation, the training loop and the command line."""
