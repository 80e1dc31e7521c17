"""What the user says is wrong: a number of an answer, and what should change about it."""

from rainpp.complaint.quantity import (
    Answers,
    Cell,
    Difference,
    Distance,
    Gradient,
    Prediction,
    Quantity,
    Row,
)
from rainpp.complaint.statement import Complaint
from rainpp.complaint.want import Above, Near, Presence, Should, Want, Wish

__all__ = [
    "Above",
    "Answers",
    "Cell",
    "Complaint",
    "Difference",
    "Distance",
    "Gradient",
    "Near",
    "Prediction",
    "Presence",
    "Quantity",
    "Row",
    "Should",
    "Want",
    "Wish",
]
