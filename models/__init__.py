"""The keyboard model and its text: corpus, vocabulary, batches, network, n-gram baselines, metrics."""
