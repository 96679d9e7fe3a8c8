"""Values and pure functions: graph, record, transitions, planner, messages and the ports."""
