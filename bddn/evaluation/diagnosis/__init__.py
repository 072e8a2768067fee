"""How organised and how fragile networks are: `bddn diagnose`."""
