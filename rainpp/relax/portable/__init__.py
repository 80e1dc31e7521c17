"""Relaxed answers and gradients as SQL that any database runs: see `generator.generate`."""

from rainpp.relax.portable.generator import Portable, generate
from rainpp.relax.portable.tables import ProbabilityTable, long_form

__all__ = ["Portable", "ProbabilityTable", "generate", "long_form"]
