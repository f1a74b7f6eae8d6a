"""`gasearch doctor`: checks of a run folder, its machine and its potential before a search starts.

Nothing here changes a run: what has to be written is written beside it and removed.
"""
