"""The index on disk: what the offline stage leaves for the online one."""
