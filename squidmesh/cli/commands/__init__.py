"""The commands, a module for each group: each adds its grammar, and turns options into calls and records into text."""
