"""`python -m ops` is `mlfs`, where the command is not on the path."""

from ops.cli import main

main()
