"""The live page of searches that run: read in short transactions, shown by a server on 127.0.0.1.

`rows` keeps what was read of a run as columns, `view` is a run at one moment, `watching` looks at
runs when somebody asks. `panels` and `candidate` turn views into the sections and structures of the
report, `site` answers requests, `server` is HTTP. Nothing here writes to a run folder.
"""
