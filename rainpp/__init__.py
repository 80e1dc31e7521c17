"""Complaint-driven debugging of training data."""
