"""The side-by-side benchmark: Ekiben, its peers and the ceilings on the same models, rows and machine, in one run."""
