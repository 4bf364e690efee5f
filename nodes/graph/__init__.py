"""The graph before the running node, and warnings on the node."""
