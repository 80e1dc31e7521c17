"""Curvature of the training objective, its eigenpairs, and what follows from them."""
