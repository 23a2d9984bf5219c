"""One TOML file per device: pure data, read by tvmconv.target."""
