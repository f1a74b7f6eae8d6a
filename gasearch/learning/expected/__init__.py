"""What DFT is expected to say: a potential's energies, corrected by the few results there are.

`correction` fits the difference, with the Gaussian process of `process`; `predictions` applies it
to the candidates of a round. Nothing is chosen or computed here.
"""
