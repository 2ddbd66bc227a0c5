"""The runner: what runs one task at a time on a node, with Podman.

`task.run_attempt` is the life of a task from top to bottom; `actor.Runner` is that life on
Ray, and the only module of this package that knows of Ray.
"""
