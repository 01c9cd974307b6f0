"""Launch SageMaker training jobs from two YAML files, archive them, rehearse them and run them again."""

import gc

# New objects after which Python looks for garbage. To look after every 700, as it does on its own, is a tenth of our start:
# so this comes before anything else is imported.
gc.set_threshold(50_000)

__version__ = "0.1.0"
