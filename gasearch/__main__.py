"""`python -m gasearch` is the command line."""

from gasearch.cli.app import main

main()
