"""Where relaxations run: in this process, or in worker processes that may be killed."""
