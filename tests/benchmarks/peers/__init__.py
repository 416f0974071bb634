"""The peers: other libraries for durable workflows and jobs on Postgres, each driven at its best.

Each module here is a program that runs in its peer's own environment, so it imports nothing of squidmesh, and of this
package only what needs the standard library alone: the board and ``program``. ``tests.benchmarks.rivals`` drives them.
Settings are those that were the fastest of several that were tried for the workload.
"""
