"""What commands show: status, tables, plots, progress, one-line errors. Nothing is computed."""
