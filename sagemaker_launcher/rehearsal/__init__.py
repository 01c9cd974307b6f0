"""Executes a CreateTrainingJob request on this machine, as the service would."""
