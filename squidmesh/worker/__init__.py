"""The worker: threads with one job each. ``worker.worker`` wires them together."""
