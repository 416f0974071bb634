"""Durable workflows in plain Python functions, on the Postgres that you already have."""
