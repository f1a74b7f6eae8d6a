"""Worker processes of this machine, which may crash, hang and be killed; no clusters."""
