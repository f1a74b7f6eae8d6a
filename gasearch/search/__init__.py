"""The search: proposals from what is known, their relaxation, its end; resume and replay.

It relaxes through `execution`, keeps everything in `store` and shows nothing.
"""
