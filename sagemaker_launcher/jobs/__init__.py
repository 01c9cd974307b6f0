"""Jobs on AWS: asked for, watched, read and shown."""
