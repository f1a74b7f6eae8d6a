"""Frames from files, their labels, and how they are split."""
