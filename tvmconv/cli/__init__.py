"""The `tvmconv` command."""
