"""A new project: its files, the schemas that editors read, and what to ask of an account's administrator."""
