"""Relaxation of one structure or of many, and the verdict on what came out. No database here."""
