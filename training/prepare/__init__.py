"""From a manifest to a store: every scan preprocessed, one result or one reason each (ADR 16).

``place`` names the files, ``scan`` prepares one visit, ``pool`` runs visits in processes that may die, ``outcome`` is
what is left of each row, ``gather`` makes the tables that training and a person read.
"""
