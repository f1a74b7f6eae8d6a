"""One module per DFT code: its inputs, its outputs, and how they are compared.

Jobs that run them live in `jobs`.
"""
