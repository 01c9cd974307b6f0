"""The real servers that integration tests run on: an object store, AWS's other services, a proxy with faults."""
