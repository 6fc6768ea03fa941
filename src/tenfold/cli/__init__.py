"""cli: the `tenfold` command. One file per command, imported when that command is called."""
