"""Relaxed SQL: what a query over predictions expects to answer, and how that moves with them."""
