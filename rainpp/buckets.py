"""Buckets of rows with like accuracy, for `rainpp.monitor(buckets=)`."""

from rainpp.stream.buckets import Buckets

__all__ = ["Buckets"]
