"""Networks fitted to DFT frames: settings, start, loss and loop.

Frames live in `data`, errors of any potential in `evaluation`; the networks themselves are in
`gasearch.potentials`.
"""
