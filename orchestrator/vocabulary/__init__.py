"""A word list from nobody's text: words that many people use, found letter by letter through noisy secure sums."""
