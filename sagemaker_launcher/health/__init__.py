"""What `doctor` examines besides a job and its account: packages, disks, the container engine, leftovers."""
