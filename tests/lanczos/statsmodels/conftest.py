"""The script that wrote the data needs statsmodels, which the tests do not."""

collect_ignore = ["make.py"]
