"""What the events of DFT are called."""

DFT_LEVEL, DFT_JOB, DFT_RECORDED = "dft_level", "dft_job", "dft_recorded"
ADDED = "added"
"""A candidate that came from elsewhere, and that nobody asked the search to relax."""
ADOPTED = "adopted"
"""Such a candidate that the search proposed in the end, and that has its number since then."""
