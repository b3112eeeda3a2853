"""Lets people watch a run: the progress bar, the log, the metrics of their logger, and the record of the run.

All of it is done when a phase or an epoch begins or ends; nothing is done for a step.
"""
