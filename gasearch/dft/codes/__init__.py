"""The DFT codes, one module each: inputs, outputs, the settings in them, retries.

`contract` says what a code must have, `registry` names them all. Where jobs lie and run: `jobs`.
"""
