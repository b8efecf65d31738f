"""The command line: a module for each area of commands, and what they print."""
