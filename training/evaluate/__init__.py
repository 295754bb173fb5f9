"""The report: every table of the paper on held-out scans, on real scans, and the edits of one scan."""
