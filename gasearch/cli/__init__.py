"""The command line: one file per group of commands.

What they compute and print lives below; nothing imports this folder.
"""
