"""What can be done to one training row: delete it, give it another label, or other inputs."""

from rainpp.intervention.kinds import Delete, Intervention, Kind, Relabel, Replace
from rainpp.intervention.table import InterventionTable

__all__ = ["Delete", "Intervention", "InterventionTable", "Kind", "Relabel", "Replace"]
