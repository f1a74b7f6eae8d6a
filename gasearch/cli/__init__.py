"""The command line: one file per group of commands; `common` has what they share.

What they compute and print lives in other folders; nothing imports this one.
"""
