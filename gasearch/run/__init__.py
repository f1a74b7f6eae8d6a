"""A run folder and its run.toml: sections, defaults, the template, the host that it declares."""
