"""A run on disk and in time: its folder, its text, the training loop, the record, and the replay of a round."""
