"""Windows for `rainpp.monitor`: Tumbling, Sliding, Session, Last and Everything."""

from rainpp.stream.window import Everything, Last, Session, Sliding, Tumbling, Window

__all__ = ["Everything", "Last", "Session", "Sliding", "Tumbling", "Window"]
