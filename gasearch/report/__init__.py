"""The report of a search: one HTML page without network, and the same figures as PNG and PDF.

`material` opens the run folders, each chapter makes a `Section` of plain data, `collect` names the
chapters in their order. `page` and `figures` draw sections, whatever they are made from.
"""
