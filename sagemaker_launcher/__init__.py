"""Launch SageMaker training jobs from two YAML files, archive them, rehearse them and run them again."""

__version__ = "0.1.0"
