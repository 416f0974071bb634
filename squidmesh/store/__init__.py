"""The store: statements as values, the two drivers that run them, and what they read and write."""
