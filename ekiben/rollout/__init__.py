"""Which version answers: routing, plans, their analysis, and the controller that carries them out."""
