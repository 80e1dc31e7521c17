"""Models and checkpoints as other libraries write them."""
