"""The script that wrote the data needs torch and captum, which the tests do not."""

collect_ignore = ["make.py"]
