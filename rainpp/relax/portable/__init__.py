"""Relaxed answers and gradients as SQL that any database runs: see `generator.generate`."""

from rainpp.relax.portable.generator import Portable, ProbabilityTable, generate, long_form

__all__ = ["Portable", "ProbabilityTable", "generate", "long_form"]
