"""`python -m orchestrator.cli`, for where the script `fedkeys` is not on the path."""

from orchestrator.cli.app import main

main()
