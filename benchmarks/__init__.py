"""Ours beside what a user would pick instead: equal results first, then time."""
