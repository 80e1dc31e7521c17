"""What can be done to one training row: delete it, or give it another label."""

from rainpp.intervention.kinds import Delete, Intervention, Relabel
from rainpp.intervention.table import InterventionTable

__all__ = ["Delete", "Intervention", "InterventionTable", "Relabel"]
