"""Schedule templates, one file each, found by tvmconv.template's registry."""
