"""Benchmarks: how fast squidmesh is, beside what the same Postgres server can do. ``python -m tests.benchmarks --help``.

Every body is a no-op, so only the engine is measured; the server has fsync, synchronous_commit and full_page_writes on.
How to read the figures is in docs/benchmarks.md.
"""
