"""Many structures relaxed at once, each as if it were alone.

Verdicts and settings are those of all relaxers, in the folder above.
"""
