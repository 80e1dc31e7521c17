"""The script that wrote the data needs PyTorch, which the tests do not."""

collect_ignore = ["torch_reference.py"]
