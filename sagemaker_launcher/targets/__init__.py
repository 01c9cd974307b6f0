"""Where a request runs: on AWS, or on this machine."""
