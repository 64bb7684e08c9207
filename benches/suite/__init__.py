"""The benchmark suite: cells as data, arms that run them, what is measured, and the report. Standard library only."""
