"""Formats of a leaderboard: a function each, from boards to text."""
