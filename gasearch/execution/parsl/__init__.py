"""Workers on a cluster, through Parsl, and jobs of its scheduler."""
