"""Keeps the conversations of several machines the same, through a folder that all of them can reach.

Conversations only grow, and ids name content, so the folder holds the union of what its machines have: each machine
adds what others lack and takes what it lacks itself. Nothing is merged by hand, and no machine waits for another.
"""
