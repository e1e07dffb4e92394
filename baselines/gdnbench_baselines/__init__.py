"""The baselines: each architecture one file with one Mixer class, found by its file name.

A new mixer is a new file here (or anywhere else, given by path); nothing has to be registered.
"""
