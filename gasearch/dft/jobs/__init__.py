"""A DFT job from folder to result: prepared, run or exported, and collected.

What a code reads and writes lives in `codes`.
"""
