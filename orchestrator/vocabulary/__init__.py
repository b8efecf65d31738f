"""Finds the word list privately: words that many people use, letter by letter, through noisy secure sums."""
