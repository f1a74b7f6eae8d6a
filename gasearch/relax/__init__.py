"""Relaxation of one structure through ASE or of many in batches, and the verdict on what came out.

Nothing here knows a database or where a relaxation runs.
"""
