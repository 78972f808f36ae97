"""How many corrected slices buy how much: a simulated study in which an oracle corrects slices of real scans.

``python -m training.annotation_effort`` runs what is missing of the plan and writes the report.
"""
