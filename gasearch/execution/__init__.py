"""Where relaxations run: a stream of tasks over processes, devices and clusters.

What a relaxation is lives in `relax`.
"""
