"""The planner: pure decisions. ``planner`` is the way in; ``plan`` and ``outcome`` are what goes out and in."""
