"""The report of a search: one HTML page without network, and the same figures as PNG and PDF.

Run folders become plain data in `material`; each chapter makes a `Section` of them; `page` and
`figures` draw sections and know nothing of where they come from.
"""
