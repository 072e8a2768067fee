"""Several models on one subject: `bddn compare`."""
