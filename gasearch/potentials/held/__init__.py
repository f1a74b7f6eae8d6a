"""A hold: a penalty that keeps each redox site of any potential in the state of its label.

Petersen et al. (arXiv 2603.26471) give Fe2+ and Fe3+ two species and train; a hold needs no
training. The energy of a potential that knows elements only gets a one-sided penalty, which is zero
while each redox site looks like its label, by its magnetic moment or by its bond valence sum, and
grows when it does not. What a site must look like is measured on the host's own end members, by
`gasearch.relax.calibration`. Nothing here relaxes.
"""
