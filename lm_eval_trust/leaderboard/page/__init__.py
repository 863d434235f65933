"""The page: boards, charts and samples in one HTML file that needs no network."""

from lm_eval_trust.leaderboard.page.write import write_page

__all__ = ["write_page"]
