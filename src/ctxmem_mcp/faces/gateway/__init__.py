"""The gateway: stands before the model that the user talks to, and sends long conversations on as a view and a rest."""
