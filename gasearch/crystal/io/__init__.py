"""Hosts and structures from files and names, written down and guessed.

What they are lives one folder up.
"""
