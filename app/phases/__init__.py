"""The running of a schedule: the callback, its companions, and what happens when a phase ends."""
