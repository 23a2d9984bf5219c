"""Loop nests, recipes and predictions that the templates share; targets give the facts."""
