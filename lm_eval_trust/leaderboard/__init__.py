"""Leaderboard: results of evaluations read, compared with statistics, and set as tables."""
