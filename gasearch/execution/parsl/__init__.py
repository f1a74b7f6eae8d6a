"""Workers on a cluster, or here, through Parsl, and long programs as jobs of its scheduler."""
