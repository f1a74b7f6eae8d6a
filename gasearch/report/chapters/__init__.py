"""The chapters of the report: functions from its material to a `Section`, one file per subject.

They are registered in `gasearch.report.collect`.
"""
