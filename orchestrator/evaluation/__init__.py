"""How well a run predicts and what it costs: baselines, fine-tuning, bytes and seconds, privacy."""
