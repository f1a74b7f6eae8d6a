"""DFT: which candidates are promoted, levels of theory, and which charge order came out.

`codes` has one module per code, `jobs` leads from a candidate to a collected result. Nothing here
imports a code: GPAW runs as a process of its own.
"""
