"""Leaderboard: reads saved evaluations, compares them with statistics, and writes tables."""
