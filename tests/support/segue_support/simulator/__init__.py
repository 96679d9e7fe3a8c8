"""The simulator: runs the real planner, transitions and handlers through random histories.

``python -m segue_support.simulator --help`` runs histories from the command line.
"""
