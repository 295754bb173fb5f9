"""From raw cohorts to one validated table of scans: subjects, sessions, labels, stages and splits.

``cards`` says where a cohort keeps things, ``scan`` finds them, ``labels`` reads the words, ``check`` looks for
contradictions, ``split`` parts the people, ``table`` is the file.
"""
