"""`python -m gasearch` is the command line."""

from gasearch.cli import main

main()
