"""First-principles jobs: prepared as folders, run or exported, collected, classified.

One file per code. Nothing here imports a code: GPAW is run as a process of its own.
"""
