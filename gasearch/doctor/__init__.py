"""`gasearch doctor`: whether a configuration works, before a queue is waited for.

Nothing here changes a run: what has to be written is written beside it and removed.
"""
