"""The tables and figures of Flokas et al. (SIGMOD 2022), each with a command of its own.

`cells` says which model is trained on which errors, `tasks` trains it, `queries` complains,
`sweep` measures, and the scripts named after figures and tables draw from what was measured.
"""
