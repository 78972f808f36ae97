"""The study "does the language-model layer help?": a plan of runs, their statistics and the report made from them.

``python -m training.study run PLAN.yaml -o RUNS`` trains what is missing, ``analyse RUNS`` measures the networks'
inside on the test images, ``report RUNS -o FILE.md`` writes the report of whatever has been logged so far.
"""
