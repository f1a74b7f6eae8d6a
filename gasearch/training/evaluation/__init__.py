"""Errors of a model against labelled frames, compared and drawn."""
