"""A SageMaker that really trains: every job runs on this machine, as a rehearsal of its own request."""
