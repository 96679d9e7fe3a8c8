"""The simulator: planner, ledger and handlers as they are, in a world that a seed decides.

``python -m segue_support.simulator --help`` runs histories by hand.
"""
